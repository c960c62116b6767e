"""`make kernel-check` finds what is planted: a checker that cannot fail checks nothing.

Kernels are compiled and counted in processes of their own, as the interpreter is on for the whole of this one.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parents[2]

KERNELS = """
import torch, triton, triton.language as tl

@triton.jit
def _copy(x, y, n, stride, WIDTH: tl.constexpr, TWICE: tl.constexpr):
    i = tl.program_id(0) * WIDTH + tl.arange(0, WIDTH)
    value = tl.load(x + i * stride, i < n)
    if TWICE:
        value += tl.load(x + (i + 1) % n, i < n)
    tl.store(y + i * stride, value, i < n)

@triton.jit
def _outer(x, y, WIDTH: tl.constexpr):
    i = tl.arange(0, WIDTH)
    v = tl.load(x + i).to(tl.float32)
    total = tl.zeros((WIDTH, WIDTH), tl.float32)
    for step in range(8):
        total = total * tl.sum(total, 0)[None, :] + tl.sum(total, 1)[:, None] * v[None, :]
    tl.store(y + i[:, None] * WIDTH + i[None, :], total.to(tl.bfloat16))

@triton.jit
def _scale(x, y, annotated: tl.float64, KIND: tl.constexpr, WIDTH: tl.constexpr):
    i = tl.arange(0, WIDTH)
    v = tl.load(x + i) * annotated + tl.full([], 1 / 3, tl.float64)
    v = tl.where(v > tl.full([], 0.1, tl.float64), v * 0.7, 0.0)  # a literal beside a tensor alone is of the tensor's type
    if KIND == "constant":
        v = v + tl.full([], 0.1, tl.float32)
    if KIND == "detour":
        v = v.to(tl.float32).to(tl.float64)
    if KIND == "arithmetic":
        v = (v.to(tl.float32) * v.to(tl.float32)).to(tl.float64)
    tl.store(y + i, v)

@triton.jit
def _shift(x, y, plain, WIDTH: tl.constexpr):
    i = tl.arange(0, WIDTH)
    tl.store(y + i, tl.load(x + i) + plain)

def scale(kind):
    return lambda x: _shift[(1,)](x, x, 0.1, 128) if kind == "argument" else _scale[(1,)](x, x, 0.1, kind, 128)

def copy(x, stride=1, twice=False, width=1024, spare=1):
    y = torch.empty_like(x)
    n = x.numel() // stride
    _copy[(triton.cdiv(n, width) * spare,)](x, y, n, stride, width, twice)
    return y

def sound(x): return copy(x)
def strided(x): return copy(x, 3)
def masked(x): return copy(x[:1024], spare=3)
def twice(x): return copy(x, twice=True)
def detour(x): return copy(x.clone())
def spilling(x): return _outer[(1,)](x, x, 64, num_warps=1, maxnreg=32)
def broken(x): return _copy[(1,)](x, x, 1024, 1, 1000, False)
"""

COMPILE = """
import json, planted, torch
from benchmarks.kernel_check.launches import Launch
from benchmarks.kernel_check.triton_code import Compiled, compiled, started
x = torch.empty(1 << 20, device="meta", dtype=torch.bfloat16)
found = {}
for name in ("sound", "strided", "spilling", "broken"):
    for arch in (80, 90):
        (one,) = started(getattr(planted, name), Launch(name, (x,), "planted"), arch)
        result = compiled(one)
        found[f"{name} {arch}"] = [result.body.widths(), result.failures(arch)]
for arch in (80, 90):
    found[f"shared {arch}"] = ["", Compiled(shared=164 << 10).failures(arch)]
print(json.dumps(found))
"""

COUNT = """
import json
from benchmarks.kernel_check.traffic import measure
import planted, torch
x = torch.empty(1 << 20, dtype=torch.bfloat16, device="meta")
print(json.dumps({name: measure(getattr(planted, name), (x,)).ratio for name in ("sound", "masked", "twice", "detour")}))
"""


def run(folder: Path, script: str, interpret: str) -> Any:
    pytest.importorskip("triton")
    (folder / "planted.py").write_text(KERNELS)
    environment = {
        **os.environ,
        "TRITON_INTERPRET": interpret,
        "TRITON_CACHE_DIR": str(folder / "cache"),
        "PYTHONPATH": os.pathsep.join([str(folder), str(ROOT)]),
        "OMP_NUM_THREADS": "1",
    }
    ran = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, env=environment)
    assert ran.returncode == 0, ran.stderr
    return json.loads(ran.stdout.splitlines()[-1])


@pytest.fixture(scope="module")
def found(tmp_path_factory: pytest.TempPathFactory) -> dict[str, tuple[str, list[str]]]:
    return run(tmp_path_factory.mktemp("compiled"), COMPILE, "0")


@pytest.mark.parametrize("arch", [80, 90])
class TestCompiled:
    def test_a_sound_kernel_passes(self, found, arch):
        widths, failures = found[f"sound {arch}"]
        assert widths == "ld 1x16, st 1x16"
        assert failures == []

    def test_scalar_access_fails(self, found, arch):
        widths, failures = found[f"strided {arch}"]
        assert widths == "ld 8x2, st 8x2"
        assert [failure.split(" of the bytes")[0] for failure in failures] == ["100%"]

    def test_a_spill_fails(self, found, arch):
        assert [failure.split(":")[0] for failure in found[f"spilling {arch}"][1]] == ["spills"]

    def test_too_much_shared_memory_fails(self, found, arch):
        assert len(found[f"shared {arch}"][1]) == (1 if arch == 80 else 0)  # 163 and 227 KiB are there

    def test_what_does_not_compile_fails(self, found, arch):
        assert found[f"broken {arch}"][1][0].startswith("does not compile")


NARROWED = """
import json, planted, torch
from benchmarks.kernel_check.precision import failures
from facegan.warmup.kernels import started
from facegan.warmup.launches import Launch
x = torch.empty(128, device="meta", dtype=torch.float64)
found = {}
for kind in ("sound", "argument", "constant", "detour", "arithmetic"):
    (one,) = started(planted.scale(kind), Launch(kind, (x,), "planted"), 90)
    found[kind] = failures(one.compiled().asm["ttir"], json.loads(one.data)["signature"])
print(json.dumps(found))
"""


def test_float32_in_a_float64_kernel_is_found(tmp_path):
    found = run(tmp_path, NARROWED, "0")
    assert found["sound"] == []
    assert "a scalar argument is float32" in found["argument"]
    assert [reason.split(" is ")[0] for reason in found["constant"]] == ["the constant 0.10000000149011612"]
    assert sorted(reason.split(":")[0] for reason in found["detour"]) == [
        "computes in less than float64", "widens float32 where no tensor is",
    ]  # fmt: skip
    assert sum("arith.mulf" in reason for reason in found["arithmetic"]) == 1


def test_constants_are_told_by_their_bits(monkeypatch):
    monkeypatch.syspath_prepend(str(ROOT))
    pytest.importorskip("triton")
    from benchmarks.kernel_check.precision import failures

    def of(constant: str, kind: str = "tensor<128xf64>", signature: str = "*fp64") -> int:
        value = constant if kind == "f64" else f"dense<{constant}>"
        return len(failures(f"%cst = arith.constant {value} : {kind} loc(#loc7)", {"x": signature}))

    exact = ("2.000000e-01", "0.33333333333333331", "1.000000e-37", "0.000000e+00", "-5.000000e-01", "1.024000e+03")
    for right in (*exact, "0x7FF0000000000000"):
        assert of(right) == of(right, "f64") == 0
    for wrong in ("0.20000000298023224", "9.9999999109757897E-38", "-0.0010000000474974513"):
        assert of(wrong) == of(wrong, "f64") == 1
    assert of("1.000000e-01", "tensor<128xf32>") == 1
    assert of("1.000000e+00", "tensor<128xf32>") == 0


TRAINING = """
import json
from benchmarks.kernel_check import trainings
from facegan.errors import FaceganError
part = trainings.check("stylegan2-16")
small = trainings.configuration("stylegan2-16-float32")
try:
    trainings.configuration("stylegan3-16")
except FaceganError as error:
    refusal = str(error)
print(json.dumps([part.rows, part.failures, part.note, small.mixed_precision, refusal]))
"""


def test_kernels_of_a_training_are_counted(tmp_path):
    rows, failures, note, precision, refusal = run(tmp_path, TRAINING, "0")
    assert len(rows) > 10 and len({(kernel, label) for kernel, _, _, label in rows}) == len(rows)
    assert failures == [] and note.startswith(f"{len(rows)} distinct kernels")
    assert all(float(seconds) > 0 for _, seconds, *_ in rows)
    assert {"G", "R1", "path length"} <= {case for _, _, case, _ in rows} | {"R1"}
    assert precision == "no" and "stylegan3-16" in refusal


def test_bytes_are_counted(tmp_path):
    ratios = run(tmp_path, COUNT, "1")
    assert ratios["sound"] == pytest.approx(1)
    assert ratios["masked"] == pytest.approx(2048 / (1024 + 2**20))  # two thirds of the lanes are not active
    assert ratios["twice"] == pytest.approx(1.5)
    assert ratios["detour"] == pytest.approx(2)  # what PyTorch moves in a launcher counts


class TestPtx:
    @pytest.fixture(autouse=True)
    def path(self, monkeypatch):
        monkeypatch.syspath_prepend(str(ROOT))

    def body(self, *lines: str) -> Any:
        from benchmarks.kernel_check import ptx

        text = "\n".join([".visible .entry f(", ".param .u64 p", ")", "{", *lines, "}"])
        return ptx.bodies(text)["f"]

    def test_accesses_of_both_compilers_are_read(self):
        body = self.body(
            ".loc 1 7 3",
            "@%p1 ld.global.v4.b32 { %r1, %r2, %r3, %r4 }, [ %rd1 + 0 ];",
            "ld.global.nc.L2::128B.v2.f32 {%f1, %f2}, [%rd2];",
            "ld.global.L1::evict_last.b16 { %rs1 }, [ %rd3 + 0 ];",
            "st.u8 [%rd4], %rs2;",
            "cp.async.cg.shared.global [ %r5 + 0 ], [ %rd5 + 0 ], 0x10, 0x10;",
            "ld.param.u64 %rd1, [p];",
            "st.shared.v4.b32 [%r1], {%r1, %r2, %r3, %r4};",
            "red.global.add.f32 [%rd6], %f1;",
        )
        assert [(a.kind, a.width, a.line) for a in body.accesses] == [
            ("ld", 16, 7), ("ld", 8, 7), ("ld", 2, 7), ("st", 1, 7), ("cp", 16, 7), ("at", 4, 7),
        ]  # fmt: skip
        assert body.local == 0
        assert self.body("ld.local.f32 %f1, [%rd1];").local == 1

    def test_loops_count_before_what_surrounds_them(self):
        loop = ["$L_1:", "ld.global.b16 %rs1, [%rd1];", "ld.global.v4.b32 {%r1,%r2,%r3,%r4}, [%rd1];", "@%p bra $L_1;"]
        around = ["bra $L_9;", *["ld.global.b16 %rs1, [%rd1];"] * 50, "$L_9:"]
        assert self.body(*loop, *around).widths() == "ld 1x16 1x2"
        assert self.body(*loop, *around).narrow() is None  # 2 of 18 bytes
        assert self.body(*around).narrow() is not None

    def test_ptxas_report_is_read(self):
        from benchmarks.kernel_check import cuda_code

        log = (
            "ptxas info    : 0 bytes gmem\n"
            "ptxas info    : Compiling entry function 'f' for 'sm_80'\n"
            "ptxas info    : Function properties for f\n"
            "    8 bytes stack frame, 4 bytes spill stores, 12 bytes spill loads\n"
            "ptxas info    : Used 40 registers, used 1 barriers, 8 bytes cumulative stack size, 1024 bytes smem, 400 bytes cmem[0]\n"
        )
        text = ".visible .entry f(\n.param .u64 p\n)\n{\nst.global.u16 [%rd1], %rs1;\n}"
        (kernel,) = cuda_code.parse(log, {80: text})
        assert (kernel.arch, kernel.registers, kernel.stack, kernel.spilled, kernel.shared) == (80, 40, 8, 16, 1024)
        assert [failure.split()[0] for failure in kernel.failures()] == ["spills", "uses", "100%"]

    def test_scalar_kernels_pass_as_tails_or_by_name_only(self):
        from benchmarks.kernel_check.cuda_code import Kernel

        names = ["f<c10::Half, 1, true>", "f<c10::Half, 8, true>", "f<c10::Half, 1, false>", "g<c10::Half>", "sample_kernel<c10::Half>"]
        kernels = [Kernel(name, 80, 0, 0, 0, 0, "", "narrow" if "8" not in name else None) for name in names]
        assert [kernel.failures(kernels) for kernel in kernels] == [[], [], ["narrow"], ["narrow"], []]


def test_limits_of_operators(tmp_path):
    """A large plane is allowed a second pass, a small one and everything elementwise is not; sums weigh in on small tensors."""
    script = """
import json, torch
from benchmarks.kernel_check.budget import limit
from benchmarks.kernel_check.launches import Launch
def of(operator, size, *rest, format=torch.contiguous_format):
    return limit(Launch(operator, (torch.empty(1, 8, size, size, device="meta", memory_format=format), *rest), ""))
f = torch.ones(4, device="meta")
none = (None, None, None)
print(json.dumps({
    "elementwise": [of("bias_act", 256), of("modulated_epilogue", 64, *none, None), of("adain", 32)],
    "two passes": [of("adain", 256), of("adain", 32, format=torch.channels_last)],
    "sums": [of("modulated_epilogue_backward", 256), of("modulated_epilogue_backward", 1024)],
    "filtered": [of("upfirdn2d", 64), of("modulated_epilogue", 64, *none, f)],
    "arithmetic": [of("modulated_conv2d_fused", 64)],
}))
"""
    limits = run(tmp_path, script, "1")
    assert limits == {
        "elementwise": [1.05, 1.05, 1.05],
        "two passes": [1.55, 1.55],
        "sums": [1.15, 1.05],
        "filtered": [1.3, 1.3],
        "arithmetic": [None],
    }


def test_kept_results_follow_the_sources(tmp_path, monkeypatch):
    """A result is used again only while source, headers and command stay as they were."""
    monkeypatch.syspath_prepend(str(ROOT))
    from benchmarks.kernel_check import cuda_code

    folder = tmp_path / "csrc" / "cuda"
    folder.mkdir(parents=True)
    source, calls = folder / "a.cu", []
    source.write_text("")
    monkeypatch.setattr(cuda_code, "KEPT", tmp_path / "kept")

    def nvcc(command: list[str], **_: Any) -> subprocess.CompletedProcess[str]:
        calls.append(command)
        keep = next(word.split("=")[1] for word in command if word.startswith("--keep-dir"))
        for arch in cuda_code.ARCHITECTURES:
            Path(keep, f"a.compute_{arch}.ptx").write_text("")
        return subprocess.CompletedProcess(command, 0, "", "a.cu(3): warning #177-D: unused\n")

    monkeypatch.setattr(subprocess, "run", nvcc)
    for header, command, expected in [("", "nvcc", 1), ("", "nvcc", 1), ("new", "nvcc", 2), ("new", "nvcc -g", 3), ("new", "nvcc -g", 3)]:
        (folder / "b.cuh").write_text(header)
        assert cuda_code.compile_source(source, command.split()) == ([], ["a.cu(3): warning #177-D: unused"])
        assert len(calls) == expected
