"""What a fork server has imported when it is ready, and what it leaves to jobs that need it."""

from __future__ import annotations

import json
import subprocess
import sys

SCRIPT = """
import json, sys
from converter.processes import preload
preload.preload()
left_out = "torch._dynamo" not in sys.modules
import torch, torchvision
roi_align = sys.modules["torchvision.ops.roi_align"]
ours = roi_align.is_compile_supported
stand_ins = [
    name for name, module in list(sys.modules.items())
    if any(type(value) is type(sys) and value.__name__.startswith("torch._dynamo")
           for value in vars(module).values())
]
preload.preload_for(["dynamo"])
from torch._dynamo.utils import is_compile_supported
compiled = torch.compile(lambda x: x + 1, backend="eager")(torch.ones(1))
print(json.dumps({
    "left_out": left_out,
    "stand_ins": stand_ins,
    "same": ours("cpu") == is_compile_supported("cpu"),
    "compiles": float(compiled),
}))
"""


def test_torchvision_comes_without_the_compiler_which_is_there_where_it_is_needed() -> None:
    done = subprocess.run([sys.executable, "-c", SCRIPT], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout.splitlines()[-1]) == {
        "left_out": True,
        "stand_ins": [],
        "same": True,
        "compiles": 2.0,
    }
