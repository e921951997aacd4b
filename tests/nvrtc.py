"""NVIDIA's run-time compiler, if its library can be found: it needs no driver and no GPU."""

import ctypes
import importlib.util
import re

from pathlib import Path

ARCHITECTURES = ("sm_80", "sm_90", "sm_100")


def library():
    """NVRTC from the package nvidia-cuda-nvrtc, or from the system; None if there is none."""
    spec = importlib.util.find_spec("nvidia")
    folders = spec.submodule_search_locations if spec else []
    found = sorted(so for folder in folders for so in Path(folder).glob("**/libnvrtc.so.*[0-9]"))
    for name in [*map(str, found), "libnvrtc.so"]:
        try:
            for needed in Path(name).parent.glob("libnvrtc-builtins.so*"):  # which 13.0 does not find by itself
                ctypes.CDLL(str(needed))
            return ctypes.CDLL(name)
        except OSError:
            continue
    return None


def elementwise(inputs, outputs, body, preamble=""):
    """The body of an ElementwiseKernel of float32 or float64 arrays in a kernel of its own."""
    inputs, outputs = (t.replace("float32", "float").replace("float64", "double") for t in (inputs, outputs))
    pairs = [part.split() for part in outputs.split(",")]
    parameters = ", ".join([inputs, *(f"{kind}* to_{name}" for kind, name in pairs)])
    named = " ".join(f"{kind}& {name} = *to_{name};" for kind, name in pairs)
    return f'{preamble}extern "C" __global__ void kernel({parameters}) {{\n{named}\n{body}\n}}'


def compiled(source, architecture, *options):
    """The machine code of a source text as bytes; RuntimeError with the compiler's words if it refuses."""
    return _compiled(source, architecture, options)[0]


USED = re.compile(
    r"Function properties for (\S+)\n.*?(\d+) bytes spill stores, (\d+) bytes spill loads\n.*?Used (\d+) reg", re.S
)


def registers(source, architecture):
    """By kernel: (registers that a thread uses, bytes of them that it spills)."""
    log = _compiled(source, architecture, ["--ptxas-options=-v"])[1]
    return {name: (int(used), int(stores) + int(loads)) for name, stores, loads, used in USED.findall(log)}


def _compiled(source, architecture, options):
    """The machine code, and what the compiler says."""
    nvrtc, program, size = library(), ctypes.c_void_p(), ctypes.c_size_t()
    text = [f"-arch={architecture}", "-std=c++17", *options]
    given = (ctypes.c_char_p * len(text))(*(t.encode() for t in text))
    nvrtc.nvrtcCreateProgram(ctypes.byref(program), source.encode(), b"kernel.cu", 0, None, None)
    failed = nvrtc.nvrtcCompileProgram(program, len(text), given)
    nvrtc.nvrtcGetProgramLogSize(program, ctypes.byref(size))
    log = ctypes.create_string_buffer(size.value)
    nvrtc.nvrtcGetProgramLog(program, log)
    if failed:
        raise RuntimeError(log.value.decode())
    nvrtc.nvrtcGetCUBINSize(program, ctypes.byref(size))
    code = ctypes.create_string_buffer(size.value)
    nvrtc.nvrtcGetCUBIN(program, code)
    nvrtc.nvrtcDestroyProgram(ctypes.byref(program))
    return code.raw, log.value.decode()
