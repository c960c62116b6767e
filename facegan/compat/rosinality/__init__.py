"""What stands in for rosinality's `op` and for `basicsr.ops`: one file for each module, run under the project's own module name.

The two families differ in arguments that do not meet: GPEN adds `device`, BasicSR and pixel2style2pixel leave `bias` out of
`FusedLeakyReLU`. One module serves all of them.
"""
