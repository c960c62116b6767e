"""The parts of the check. Each runs in a process of its own and imports only there what it needs: the interpreter is turned on
for a whole process, and PyTorch's threads do not survive the forks of the part that compiles."""

from __future__ import annotations

from benchmarks.kernel_check.report import Part


def triton() -> Part:
    from itertools import chain

    from benchmarks.cases import LAYERS, NETWORKS, REGIONAL, STREAMING, block, select
    from benchmarks.kernel_check import triton_code

    # What `make gpu-check` measures, and every map of every network in the format and dtype that training uses.
    maps = [block(network, (*STREAMING, *LAYERS), ("fwd+bwd",), [size for _, size in sizes]) for network, sizes in NETWORKS.items()]
    return triton_code.check(case for case in chain(select("check"), *maps) if case.op in (*STREAMING, *LAYERS, *REGIONAL))


def triton_full() -> Part:
    from benchmarks.cases import LAYERS, STREAMING, select
    from benchmarks.kernel_check import triton_code

    wanted = (case for case in select("full") if case.op in (*STREAMING, *LAYERS))
    return triton_code.check(case for case in wanted if case.order not in ("bwd", "graph"))  # the same kernels as "fwd+bwd"


def float64() -> Part:
    from benchmarks.kernel_check import precision

    return precision.check()


def moved() -> Part:
    from benchmarks.kernel_check import budget

    return budget.check(budget.cases())


def cuda() -> Part:
    from benchmarks.kernel_check import cuda_code

    return cuda_code.check()


def training(name: str) -> Part:
    from benchmarks.kernel_check import trainings

    return trainings.check(name)


PARTS = {"triton": triton, "float64": float64, "bytes": moved, "cuda": cuda}
OPTIONAL = {"triton-full": triton_full}
