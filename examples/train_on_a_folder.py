"""Train on a folder of faces, look at what it makes, and measure it.

The folder holds one sub-folder per attribute: faces/bald, faces/beard and, better still, faces/neither. No image needs both.
"""

import argparse

import facegan

parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
parser.add_argument("--data", default="synthetic", help="a folder of faces; 'synthetic' renders some, so that this runs without any")
parser.add_argument("--out", default="runs/example")
parser.add_argument("--resolution", type=int, default=32)
parser.add_argument("--epochs", type=int, default=30, help="of each phase; hundreds for good faces")
arguments = parser.parse_args()

# The same call again goes on where the last one was stopped.
gan = facegan.train(arguments.data, attributes=["bald", "beard"], resolution=arguments.resolution, out=arguments.out,
                    phase1_epochs=arguments.epochs, epochs=arguments.epochs)  # fmt: skip
gan.generate(seeds=range(64)).save(f"{arguments.out}/faces")  # one seed is one face, today and tomorrow

# The judge is trained apart, on images of its own: it shares nothing with what taught the generator.
report = gan.evaluate(samples=256)
print(f"faces with both attributes: {report.joint.rate:.0%}, of real ones: {report.ceiling:.0%}")
report.save(f"{arguments.out}/evaluation")
