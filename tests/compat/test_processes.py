"""`python -m facegan.compat`, and the processes that a project starts."""

from __future__ import annotations

import json

import pytest

SCRIPT = """
import json, os, pickle, sys
from torch_utils.ops import bias_act
class Made: pass
if __name__ == "__main__":
    import __main__
    assert pickle.loads(pickle.dumps(Made())).__class__ is __main__.Made
    print(json.dumps([sys.argv, bias_act.__file__, os.path.basename(sys.path[0]), __file__]))
"""
SPAWNED = """
import multiprocessing
from op import fused_leaky_relu
def work(queue):
    from torch_utils.ops import fma
    queue.put(fma.__file__)
if __name__ == "__main__":
    context = multiprocessing.get_context("spawn")
    queue = context.Queue()
    process = context.Process(target=work, args=(queue,))
    process.start()
    print(queue.get(timeout=120))
    process.join()
"""


def test_a_script_runs_as_it_would_alone(python, project) -> None:
    (project / "generate.py").write_text(SCRIPT)
    done = python("-m", "facegan.compat", "--report", "generate.py", "--network=x", "--report", "-m", "--", "3")
    assert done.returncode == 0, done.stderr
    argv, module, path, file = json.loads(done.stdout)
    assert argv == ["generate.py", "--network=x", "--report", "-m", "--", "3"]
    assert "compat" in module
    assert (path, file) == ("project", str(project / "generate.py"))
    assert "torch_utils.ops.bias_act: facegan.compat.nvidia.bias_act" in done.stderr


def test_a_module_runs_as_by_dash_m(python, project) -> None:
    (project / "tools").mkdir()
    (project / "tools" / "run.py").write_text(
        SCRIPT.replace("class Made: pass", "").replace("import __main__", "").replace("    assert", "    #")
    )
    done = python("-m", "facegan.compat", "-m", "tools.run", "a")
    assert done.returncode == 0, done.stderr
    argv, module, _, file = json.loads(done.stdout)
    assert argv[1:] == ["a"]
    assert argv[0] == file
    assert "compat" in module


def test_the_scripts_status_and_its_traceback_are_its_own(python, project) -> None:
    (project / "fails.py").write_text("from __future__ import annotations\nimport op\nraise SystemExit(3)\n")
    assert python("-m", "facegan.compat", "fails.py").returncode == 3
    (project / "breaks.py").write_text("import op\n\nprint(1 / 0)\n")
    done = python("-m", "facegan.compat", "breaks.py")
    assert done.returncode == 1
    assert f'File "{project / "breaks.py"}", line 3' in done.stderr
    (project / "future.py").write_text("import op\ndef f(x: 1): pass\nprint(f.__annotations__)\n")
    assert python("-m", "facegan.compat", "future.py").stdout == "{'x': 1}\n"  # nothing of ours in how it is compiled


def test_a_script_that_is_missing_and_one_that_needs_nothing(python, project) -> None:
    for arguments, said in (
        (["nowhere.py"], "there is no nowhere.py"),
        (["op"], "there is no op"),  # a folder without __main__.py
        (["-m", "nowhere"], "there is no module nowhere"),
        (["-m", "nowhere.at.all"], "No module named 'nowhere'"),
        ([], "there is no SCRIPT"),
    ):
        done = python("-m", "facegan.compat", *arguments)
        assert done.returncode == 2
        assert said in done.stderr
    (project / "plain.py").write_text("import torch\nprint('done')\n")  # the mend of torch's Sampler is no operator
    done = python("-m", "facegan.compat", "plain.py")
    assert done.stdout == "done\n"
    assert "no operator module was asked for" in done.stderr
    (project / "layers.py").write_text("import op\n")
    assert "no modulated convolution was found" in python("-m", "facegan.compat", "--layers", "layers.py").stderr


def test_a_worker_finds_its_script_after_a_change_of_folder(python, project, tmp_path) -> None:
    (project / "train.py").write_text(SPAWNED.replace("    context = ", f"    import os\n    os.chdir({str(tmp_path)!r})\n    context = "))
    done = python("-m", "facegan.compat", "train.py")
    assert done.returncode == 0, done.stderr


def test_a_safe_path_stays_safe(python, project) -> None:
    (project / "tools").mkdir()
    (project / "tools" / "run.py").write_text("import other, op\n")
    (project / "others").mkdir()
    (project / "others" / "other.py").write_text("print('found')\n")
    code = "import os, subprocess, sys\nos.environ['PYTHONPATH'] = os.pathsep.join(['others', '.', os.environ['PYTHONPATH']])\n"
    code += "subprocess.run([sys.executable, '-m', 'facegan.compat', 'tools/run.py'], check=True)\n"
    done = python("-c", code, PYTHONSAFEPATH="1")
    assert done.stdout == "found\n", done.stderr


def test_an_archive_runs_as_python_runs_it(python, project) -> None:
    import zipfile

    with zipfile.ZipFile(project / "tool", "w") as archive:
        archive.writestr("__main__.py", "import op, sys\nprint('ran', sys.argv)\n")
    assert python("-m", "facegan.compat", "tool", "a").stdout == "ran ['tool', 'a']\n"


def test_help_teaches(python) -> None:
    done = python("-m", "facegan.compat", "--help")
    for word in ("--layers", "--no-mends", "--report", "gen_images.py", "accelerate launch -m facegan.compat"):
        assert word in done.stdout


@pytest.mark.parametrize("how", ["-m", "install"])
def test_spawned_workers_are_served(python, project, how: str) -> None:
    install = "import facegan.compat\nif __name__ == '__main__':\n    facegan.compat.install()\n" if how == "install" else ""
    (project / "train.py").write_text(install + SPAWNED)
    done = python(*(["-m", "facegan.compat"] if how == "-m" else []), "train.py")
    assert done.returncode == 0, done.stderr
    assert "compat" in done.stdout


def test_processes_that_a_script_starts_are_served(python, project) -> None:
    """As torchrun and accelerate launch start theirs."""
    (project / "worker.py").write_text(
        "from torch_utils.ops import fma\nimport training.networks as n\nprint(fma.__file__, n.modulated_conv2d.__module__)\n"
    )
    (project / "launch.py").write_text("import subprocess, sys\nsubprocess.run([sys.executable, 'worker.py'], check=True)\n")
    done = python("-m", "facegan.compat", "--layers", "launch.py")
    assert done.returncode == 0, done.stderr
    assert "compat/nvidia/fma.py facegan.compat.layers" in done.stdout


@pytest.mark.parametrize("fails", [False, True])
def test_the_environments_own_sitecustomize_still_runs(python, project, fails: bool) -> None:
    (project / "site").mkdir()
    own = "import builtins\nbuiltins.mine = 'ran'\nvalue = 3\n" + "raise RuntimeError('its own')\n" * fails
    (project / "site" / "sitecustomize.py").write_text(own)
    worker = "import sys\nfrom torch_utils.ops import fma\nprint(mine, fma.__file__, [p for p in sys.path if 'children' in p])\n"
    (project / "worker.py").write_text(worker + "import sitecustomize\nprint(sitecustomize.value)\n" * (not fails))
    launch = "import os, subprocess, sys\nos.environ['PYTHONPATH'] += os.pathsep + 'site'\n"
    (project / "launch.py").write_text(launch + "subprocess.run([sys.executable, 'worker.py'], check=True)\n")
    done = python("-m", "facegan.compat", "launch.py")
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("ran ")
    assert done.stdout.endswith("compat/nvidia/fma.py []\n" + "3\n" * (not fails))
    assert ("its own" in done.stderr) == fails


def test_a_child_is_served_where_the_parent_found_facegan_by_a_path_of_its_own(python, project) -> None:
    (project / "launch.py").write_text(
        "import os, subprocess, sys\n"
        "os.environ['PYTHONPATH'] = os.environ['PYTHONPATH'].split(os.pathsep)[0]\n"
        "subprocess.run([sys.executable, '-c', 'import op; print(op.FusedLeakyReLU.__module__)'], check=True)\n"
    )
    done = python("-m", "facegan.compat", "launch.py")
    assert done.stdout == "op.fused_act\n", done.stderr


def test_torch_is_not_imported_to_install(python) -> None:
    code = "import facegan.compat, sys; facegan.compat.install(layers=True); print('torch' in sys.modules)"
    assert python("-c", code).stdout == "False\n"
