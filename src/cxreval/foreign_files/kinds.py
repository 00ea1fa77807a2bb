"""The table of foreign files: how each is recognised, what it is, and how to make another of it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

ACCEPTED = "ONNX, a PyTorch state dict, TorchScript or torch.export (.pt2)"
_EXPORT = (
    '`torch.onnx.export(model.eval(), images, "model.onnx")`, or save '
    "`torch.jit.script(model.eval())`, or `model.state_dict()`"
)
_FETCH = "download it again and compare its size with the source's"


@dataclass(frozen=True, slots=True)
class ForeignKind:
    """A kind of file that cannot be submitted: what it is, and what to do; `{file}` is its name."""

    what: str
    cure: str


KERAS_HDF5 = ForeignKind(
    "an HDF5 file, as Keras writes .h5",
    "run `python -m tf2onnx.convert --keras {file} --output model.onnx`; load it into its network "
    "and save the whole model first if it has only weights",
)
KERAS = ForeignKind(
    "a Keras model",
    'in Python, `keras.models.load_model("{file}").export("model.onnx", format="onnx")`',
)
SAVED_MODEL = ForeignKind(
    "a TensorFlow SavedModel",
    "run `python -m tf2onnx.convert --saved-model FOLDER --output model.onnx` on the folder that "
    "has saved_model.pb",
)
FROZEN_GRAPH = ForeignKind(
    "a frozen graph of TensorFlow",
    "run `python -m tf2onnx.convert --graphdef {file} --inputs INPUT:0 --outputs OUTPUT:0 "
    "--output model.onnx`",
)
TFLITE = ForeignKind(
    "a TensorFlow Lite model",
    "run `python -m tf2onnx.convert --tflite {file} --output model.onnx`",
)
CORE_ML = ForeignKind("a Core ML model", f"export the network that it was made from: {_EXPORT}")
OPENVINO = ForeignKind("a model of OpenVINO", "submit the ONNX file that it was made from")
CAFFE = ForeignKind("a Caffe model", "convert it to ONNX")
SKLEARN = ForeignKind(
    "a pickled model of a table library ({detail})",
    "submit its predictions as a table with `kind: predictions`; a checkpoint takes an image",
)
FASTAI = ForeignKind(
    "a Learner of fastai",
    'in Python, `torch.save(load_learner("{file}").model.state_dict(), "model.pth")`, or export '
    f"that model: {_EXPORT}",
)
MODULE = ForeignKind(
    "a whole pickled object ({detail}), which needs its own code",
    f"in Python, load it and export the model: {_EXPORT}",
)
NO_TENSORS = ForeignKind(
    "a pickle without PyTorch's tensors",
    "save the network with PyTorch or export it to ONNX",
)
ARRAYS = ForeignKind(
    "an array of NumPy or pandas, not a model",
    "for weights, save `model.state_dict()`; for predictions, write a CSV table with `kind: "
    "predictions`",
)
TABLE = ForeignKind("a table", "set `kind: predictions` if it has predictions")
TRANSFORMERS = ForeignKind(
    "the weights of a Hugging Face transformers model",
    "run `optimum-cli export onnx --model FOLDER --task image-classification onnx/` on the folder "
    "that has its config.json",
)
HUGGING_FACE_FOLDER = ForeignKind(
    "a folder of a Hugging Face model",
    "run `optimum-cli export onnx --model {file} --task image-classification onnx/`; of a timm "
    "model, submit the file model.safetensors in it",
)
FOLDER = ForeignKind("a folder", "name the files in it: `cxreval submit MANIFEST FILE ...`")
GIT_LFS = ForeignKind(
    "a Git LFS pointer, which only names the real file",
    "run `git lfs pull` in the repository, or download the file itself",
)
GIT_ANNEX = ForeignKind(
    "a git-annex pointer, which only names the real file", "run `git annex get {file}`"
)
HTML = ForeignKind(
    "a web page, not a model",
    "download the file itself: the address gave a page (a login, a notice or a preview)",
)
STORE_ERROR = ForeignKind(
    "the error message of a file store, not a model", "check the address and its permissions"
)
TEXT = ForeignKind(
    "a text, not a model", "check the address from which it was downloaded, and its content"
)
CUT_ZIP = ForeignKind("a zip archive (as torch.save writes) without its end", _FETCH)
CUT_SAFETENSORS = ForeignKind("a safetensors file of {detail}", _FETCH)
CUT_ONNX = ForeignKind("an ONNX file without its end", _FETCH)
ZEROS = ForeignKind("only zeros at its start, as of an incomplete download", _FETCH)
ARCHIVE = ForeignKind(
    "an archive or compressed file ({detail})",
    f"unpack it and submit the model in it: {ACCEPTED}",
)

STARTS: Mapping[tuple[int, bytes], ForeignKind | str] = {
    (0, b"\x89HDF\r\n\x1a\n"): KERAS_HDF5,
    (4, b"TFL3"): TFLITE,
    (4, b"ORTM"): ForeignKind(
        "a model in onnxruntime's own format", "submit the .onnx file that it was made from"
    ),
    (4, b"ET12"): ForeignKind(
        "a program of ExecuTorch", f"export the network that it was made from: {_EXPORT}"
    ),
    (0, b"ftrt"): (
        tensorrt := ForeignKind(
            "an engine of TensorRT, which fits one GPU only",
            "submit the ONNX file that it was made from",
        )
    ),
    (0, b"ptrt"): tensorrt,
    (0, b"GGUF"): (
        gguf := ForeignKind(
            "a GGUF or GGML file of a language model", f"submit an image classifier: {ACCEPTED}"
        )
    ),
    (0, b"lmgg"): gguf,
    (0, b"tjgg"): gguf,
    (0, b"\x93NUMPY"): ARRAYS,
    (0, b"PAR1"): TABLE,
    (0, b"MATLAB "): ForeignKind(
        "a file of MATLAB", 'in MATLAB, `exportONNXNetwork(net, "model.onnx")`'
    ),
    (0, b"\x12\x01\0\0\0\0\0\0"): ForeignKind(
        "parameters of MXNet", "in Python, `mxnet.onnx.export_model(SYMBOL, PARAMETERS, ...)`"
    ),
    (0, b"\x89PNG\r\n\x1a\n"): (image := ForeignKind("an image, not a model", "name the model")),
    (0, b"\xff\xd8\xff"): image,
    (0, b"GIF8"): image,
    (0, b"II*\0"): image,
    (0, b"MM\0*"): image,
    (128, b"DICM"): image,
    (0, b"%PDF"): ForeignKind("a PDF document, not a model", "name the model"),
    (0, b"SQLite format 3\0"): ForeignKind("an SQLite database, not a model", "name the model"),
    (0, b"\x7fELF"): ForeignKind("a program or library, not a model", "name the model"),
    (0, b"MZ"): ForeignKind("a program or library, not a model", "name the model"),
    (0, b"\x1f\x8b"): "gzip; `tar xf {file}` or `gunzip {file}`",
    (0, b"BZh"): "bzip2; `tar xf {file}` or `bunzip2 {file}`",
    (0, b"\xfd7zXZ\0"): "xz; `tar xf {file}` or `unxz {file}`",
    (0, b"\x28\xb5\x2f\xfd"): "zstd; `tar xf {file}` or `unzstd {file}`",
    (0, b"\x04\x22\x4d\x18"): "lz4; `lz4 -d {file}`",
    (0, b"7z\xbc\xaf\x27\x1c"): "7z; `7z x {file}`",
    (0, b"Rar!\x1a\x07"): "rar; `unrar x {file}`",
    (257, b"ustar"): "tar; `tar xf {file}`",
    (0, b"\x78\x01"): (zlib := "zlib, as joblib writes pickles"),
    (0, b"\x78\x5e"): zlib,
    (0, b"\x78\x9c"): zlib,
    (0, b"\x78\xda"): zlib,
}
"""What files start with, at an offset; a text stands for a kind of archive."""

ENTRIES: Mapping[str, ForeignKind] = {
    "model.weights.h5": KERAS,
    "saved_model.pb": SAVED_MODEL,
    "com.apple.CoreML": CORE_ML,
    "model.mlmodel": CORE_ML,
}
"""Names, in an archive or a folder, that only one kind has."""

PICKLED: Mapping[str, ForeignKind] = {
    **dict.fromkeys(("sklearn", "xgboost", "lightgbm", "catboost", "joblib"), SKLEARN),
    **dict.fromkeys(("numpy", "pandas"), ARRAYS),
    **dict.fromkeys(("keras", "tensorflow"), KERAS),
    "fastai": FASTAI,
}
"""Kinds of pickled objects, by the package of their class."""
