"""Mix the styles of bald and of bearded faces, give a face a beard, and walk from face to face."""

import argparse

import facegan

parser = argparse.ArgumentParser(description=__doc__)
parser.add_argument("--steps", type=int, default=200, help="of the projection that an edit begins with")
parser.add_argument("--out", default="mixed")
arguments = parser.parse_args()

# This network comes with the package, and with styles named bald and beard: projections of faces that have them.
net = facegan.load("synthetic64")
bald, beard = net.styles("bald")[:4], net.styles("beard")[:4]

# Rows give the face, columns the layers that the recipe names; "default" is the recipe that critics chose for this network.
mixes = net.mix(rows=bald, cols=beard, recipe="default")
mixes.save(f"{arguments.out}/mixes")  # every pair, grid.png, and recipe.json to do the same again

# An edit finds the photo's style first, then adds what bearded faces have beyond the mean one.
net.generate(seeds=3).images[0].save(f"{arguments.out}/photo.png")
edited = net.edit(f"{arguments.out}/photo.png", add="beard", steps=arguments.steps)
edited.image.save(f"{arguments.out}/edited.png")

net.walk([bald[0], beard[0], *net.styles("0-1")], out=f"{arguments.out}/walk.gif", frames=6)
