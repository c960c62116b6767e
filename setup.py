"""Packages by name: the top-level folder `kernels` must not become a package, as that import name is Hugging Face's.

The compiled operators will be built here.
"""

from setuptools import find_packages, setup

setup(
    packages=[
        *find_packages(include=["facegan", "facegan.*"]),
        *(f"facegan_kernels{name}" for name in ["", *("." + sub for sub in find_packages("kernels/facegan_kernels"))]),
    ],
    package_dir={"facegan_kernels": "kernels/facegan_kernels"},
)
