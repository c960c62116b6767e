"""Train on attributes of your own: each is a pair of selectors, what surely has it and what surely has not.

A selector combines the columns of the data's table: & and, | or, ! not. Faces that neither selector takes are left out, and so is
every face that has both attributes.
"""

import argparse

import facegan

parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
parser.add_argument("--epochs", type=int, default=30, help="of each phase; hundreds for good faces")
parser.add_argument("--num", type=int, default=2000, help="synthetic faces to learn from")
parser.add_argument("--out", default="runs/custom")
arguments = parser.parse_args()

attributes = [
    "cheerful=Smiling & Young/!Smiling",  # who smiles and is young has it; who does not smile has not; the rest is left out
    "glasses=Eyeglasses & !Wearing_Hat/!Eyeglasses",
]
gan = facegan.train("synthetic", attributes=attributes, resolution=32, num=arguments.num, out=arguments.out,
                    phase1_epochs=arguments.epochs, epochs=arguments.epochs)  # fmt: skip
print(f"trained on {', '.join(gan.attributes)}")
gan.generate(seeds=range(16)).save(f"{arguments.out}/faces")
