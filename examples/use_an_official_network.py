"""Open a published StyleGAN2, make faces, and project a photo into it. No code from the file is run."""

import argparse

import facegan

parser = argparse.ArgumentParser(description=__doc__)
parser.add_argument("network", nargs="?", default="synthetic64", help="ffhq.pkl, a .pt of rosinality, or a name that facegan ships")
parser.add_argument("--photo", help="a photo to find in the network; without it, one of its own faces")
parser.add_argument("--steps", type=int, default=200, help="of the projection; 1000 for the best likeness")
parser.add_argument("--out", default="official")
arguments = parser.parse_args()

net = facegan.load(arguments.network)  # device="cuda" moves it to a GPU; by default one is used if it is there
print(f"{arguments.network}: {net.config.resolution} px")
faces = net.generate(seeds=[85, 265, 297], truncation=0.7)  # the faces that NVIDIA's own code makes of these seeds
faces.save(f"{arguments.out}/faces")

photo = arguments.photo or f"{arguments.out}/faces/seed0085.png"
found = net.project(photo, steps=arguments.steps, out=f"{arguments.out}/styles")  # photo.npz holds the style
found.comparison().save(f"{arguments.out}/projection.png")  # the photo, what the network makes of it, their difference
