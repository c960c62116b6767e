"""Packages by name: the top-level folder `kernels` must not become a package, as that import name is Hugging Face's.

csrc/build_native.py adds the compiled libraries to what setuptools builds; csrc/build_parameters.py has all parameters.
"""

import sys
from pathlib import Path

from setuptools import find_packages, setup
from setuptools.command.build import build

sys.path.insert(0, str(Path(__file__).parent / "csrc"))
from build_native import BuildNative, Wheel  # noqa: E402
from build_parameters import build_requirements  # noqa: E402

build.sub_commands.append(("build_native", None))

setup(
    packages=[
        *find_packages(include=["facegan", "facegan.*"]),
        *(f"facegan_kernels{name}" for name in ["", *("." + sub for sub in find_packages("kernels/facegan_kernels"))]),
    ],
    package_dir={"facegan_kernels": "kernels/facegan_kernels"},
    cmdclass={"build_native": BuildNative, "bdist_wheel": Wheel},
    setup_requires=build_requirements(),
)
