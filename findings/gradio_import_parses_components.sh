#!/usr/bin/env bash
# gradio 6.31.0: `import gradio` reads and parses the source of every component, to write type stubs that its wheel holds already.
#
# The metaclass of components makes a .pyi file beside each module as the class is created: in every process, at every import, of the
# installed package too. It reads the module's source, parses it, builds the stub's text and compares it with the file that is there. The
# wheel ships these files, so that nothing is ever written, and about half of the time that the import takes is spent on it: seconds on a
# slow machine, for each command that shows a page. No setting turns it off.
#
# Seen: 62 stubs in the wheel, none changed by the import; 81 calls, 44 % of the import under a profiler. The script fails if it is not
# called for more than 30 classes any more, or if files change. (The share is printed, not asserted: it is a time.)
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install -q gradio==6.31.0
cat > "$folder/imported.py" <<'PYTHON'
import cProfile
import importlib.util
import os
import pathlib
import pstats

os.environ["GRADIO_ANALYTICS_ENABLED"] = "False"
place = pathlib.Path(importlib.util.find_spec("gradio").origin).parent


def stubs():
    return {path: (path.stat().st_mtime_ns, path.read_bytes()) for path in place.rglob("*.pyi")}


before = stubs()
profile = cProfile.Profile()
profile.enable()
import gradio  # noqa: E402

profile.disable()
calls, share = 0, 0.0
stats = pstats.Stats(profile)
for (file, _, function), (count, _, _, within, _) in stats.stats.items():
    if function == "create_or_modify_pyi":
        calls, share = count, within / stats.total_tt
print(f"gradio {gradio.__version__}: {len(before)} stubs shipped, {calls} classes parsed for them, {share:.0%} of the import, under a profiler")
assert calls > 30, "components are no longer parsed as gradio is imported"
assert before and stubs() == before, "the stubs of the wheel are no longer those that the import would write"
PYTHON
"$folder/venv/bin/python" -W ignore "$folder/imported.py"
echo "as described"
