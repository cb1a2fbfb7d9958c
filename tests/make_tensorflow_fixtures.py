"""Write tests/fixtures/tensorflow: small checkpoints by real TensorFlow, each with the logits TensorFlow computed.

TensorFlow is a dependency neither of the project nor of its tests: the fixtures are committed. To make them anew:

    python3 -m venv /tmp/tfenv
    /tmp/tfenv/bin/pip install tensorflow-cpu tokenizers cramjam     # made with 2.21.0, 0.23.3 and 2.14.0
    /tmp/tfenv/bin/python tests/make_tensorflow_fixtures.py

Every checkpoint is read back by TensorFlow's own reader and compared with the variables of the session that wrote
it. `logits.npy` (float32, [ids, n_vocab]) answers `ids.json`; in a run of several steps it is `logits-STEP.npy`.
n_head is 2 wherever no hparams.json says otherwise. Another TensorFlow may draw other weights from the same seeds.
"""

import json
import os
import shutil
import warnings
import zlib
from pathlib import Path

os.environ |= {"TF_CPP_MIN_LOG_LEVEL": "2", "CUDA_VISIBLE_DEVICES": "-1"}
warnings.filterwarnings("ignore")

import cramjam
import numpy as np
import tensorflow as tf
from tokenizers import Tokenizer, models, pre_tokenizers, trainers

v1 = tf.compat.v1
ROOT = Path(__file__).resolve().parent / "fixtures" / "tensorflow"
WHOLE = {"n_vocab": 300, "n_ctx": 32, "n_embd": 16, "n_head": 2, "n_layer": 2}
TINY = {"n_vocab": 200, "n_ctx": 16, "n_embd": 8, "n_head": 2, "n_layer": 1}
TEXT = """# The red pencil
## One
It's late, and the writer hasn't slept; they'll say that we've lost the thread of the story, the other one.
She said: "I'm here, you're there, he'd know." In 2019 there were 117 models, then 345, then 1558.
### Two
写作是一种思考。 La forêt était déjà très éloignée. 🙂🙂 The end of the story is the end of the thread.
"""


def gpt2(hparams: dict, ids: list[int], dtype=tf.float32, partitioned=False, devices=("",)) -> tf.Tensor:
    """OpenAI's graph: the logits [ids, n_vocab], computed in at least float32 from variables stored as `dtype`."""
    embd, head, layers = hparams["n_embd"], hparams["n_head"], hparams["n_layer"]
    compute = tf.float64 if dtype == tf.float64 else tf.float32

    def variable(name, shape, mean=0.0, axis=0, parts=1):
        draw = v1.random_normal_initializer(mean, 0.2)
        cut = v1.fixed_size_partitioner(parts, axis) if partitioned and parts > 1 else None
        found = v1.get_variable(name, shape, dtype, draw, partitioner=cut)
        return tf.cast(tf.convert_to_tensor(found), compute)

    def norm(x, scope):
        with v1.variable_scope(scope):
            g, b = variable("g", [embd], 1.0), variable("b", [embd])
        x = x - tf.reduce_mean(x, -1, keepdims=True)
        return g * x * tf.math.rsqrt(tf.reduce_mean(x * x, -1, keepdims=True) + 1e-5) + b

    def conv1d(x, scope, width, **cut):
        with v1.variable_scope(scope):
            w, b = variable("w", [1, x.shape[-1], width], **cut), variable("b", [width])
        return x @ w[0] + b

    def attention(x):
        with v1.variable_scope("attn"):
            split = tf.reshape(conv1d(x, "c_attn", 3 * embd), [len(ids), 3, head, embd // head])
            q, k, v = tf.unstack(tf.transpose(split, [1, 2, 0, 3]))
            mask = np.tril(np.ones([len(ids), len(ids)], bool))
            scores = (q @ tf.transpose(k, [0, 2, 1])) / tf.cast((embd // head) ** 0.5, compute)
            mixed = tf.nn.softmax(tf.where(mask, scores, tf.cast(-1e10, compute))) @ v
            return conv1d(tf.reshape(tf.transpose(mixed, [1, 0, 2]), [len(ids), embd]), "c_proj", embd)

    def mlp(x):
        with v1.variable_scope("mlp"):
            h = conv1d(x, "c_fc", 4 * embd, axis=2, parts=2)
            h = 0.5 * h * (1 + tf.tanh(np.sqrt(2 / np.pi) * (h + 0.044715 * h**3)))
            return conv1d(h, "c_proj", embd)

    with v1.variable_scope("model"):
        with tf.device(devices[0]):
            wpe = variable("wpe", [hparams["n_ctx"], embd])
            wte = variable("wte", [hparams["n_vocab"], embd], parts=3)
            x = tf.gather(wte, ids) + wpe[: len(ids)]
        for layer in range(layers):
            with tf.device(devices[layer % len(devices)]), v1.variable_scope(f"h{layer}"):
                x += attention(norm(x, "ln_1"))
                x += mlp(norm(x, "ln_2"))
        return norm(x, "ln_f") @ tf.transpose(wte)


def save(name, hparams=TINY, steps=(None,), prefix="model.ckpt", slots=False, sharded=False, saver=None, **graph):
    """One folder: a Saver's checkpoint for every step, each with weights of its own; paths in it are relative."""
    folder = ROOT / name
    folder.mkdir(parents=True)
    ids = [int(i) for i in np.random.default_rng(7).integers(0, hparams["n_vocab"], 12)]
    ids[0] = hparams["n_vocab"] - 1
    (folder / "ids.json").write_text(json.dumps(ids) + "\n")
    with tf.Graph().as_default(), tf.device("/cpu:0"):
        v1.set_random_seed(zlib.crc32(name.encode()) >> 1)
        logits = gpt2(hparams, ids, **graph)
        train = []
        if slots:
            loss = tf.nn.sparse_softmax_cross_entropy_with_logits(labels=ids[1:], logits=logits[:-1])
            train = [v1.train.AdamOptimizer(0.01).minimize(loss, v1.train.get_or_create_global_step())]
        saver = v1.train.Saver(v1.global_variables(), sharded=sharded, **(saver or {}))
        with v1.Session(config=v1.ConfigProto(device_count={"CPU": 2})) as session:
            for step in steps:
                session.run(v1.global_variables_initializer())
                session.run(train)
                path = saver.save(session, f"{name}/{prefix}", step, write_meta_graph=False)
                end = "" if step is None else f"-{step}"
                np.save(folder / f"logits{end}.npy", session.run(logits).astype(np.float32))
                verify(path, {v.op.name: session.run(v) for v in v1.global_variables()})
    return folder


def verify(path: str, wanted: dict[str, np.ndarray]) -> None:
    """TensorFlow's reader finds exactly these values (a partitioned variable counts as its parts)."""
    reader = tf.train.load_checkpoint(path)
    shapes = reader.get_variable_to_shape_map()
    for name, value in wanted.items():
        base, _, part = name.partition("/part_")
        found = reader.get_tensor(base)
        if part:
            axis = next(i for i, (a, b) in enumerate(zip(found.shape, value.shape, strict=True)) if a != b)
            before = [v.shape[axis] for n, v in wanted.items() if n.startswith(base + "/part_") and n < name]
            found = np.take(found, range(sum(before), sum(before) + value.shape[axis]), axis)
        assert found.dtype == value.dtype, name
        assert np.array_equal(found, value), name
    assert set(shapes) == {name.partition("/part_")[0] for name in wanted}, shapes
    print(f"{path}: {len(shapes)} variables read back")


def write_vocabulary(folder: Path, hparams: dict) -> None:
    """OpenAI's three files: 256 bytes, merges, and the end marker last."""
    bpe = Tokenizer(models.BPE())
    bpe.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    bpe.train_from_iterator(
        [TEXT], trainers.BpeTrainer(vocab_size=hparams["n_vocab"] - 1, initial_alphabet=alphabet, show_progress=False)
    )
    model = json.loads(bpe.to_str())["model"]
    encoder = model["vocab"] | {"<|endoftext|>": len(model["vocab"])}
    assert len(encoder) == hparams["n_vocab"]
    (folder / "encoder.json").write_text(json.dumps(encoder))
    lines = ["#version: 0.2", *(" ".join(pair) for pair in model["merges"])]
    (folder / "vocab.bpe").write_text("\n".join(lines) + "\n", encoding="utf-8")
    (folder / "hparams.json").write_text(json.dumps(hparams))


def varint(number: int) -> bytes:
    return bytes([number]) if number < 128 else bytes([number & 127 | 128]) + varint(number >> 7)


def read_varint(data: bytes, at: int) -> tuple[int, int]:
    low, at = data[at], at + 1
    if low < 128:
        return low, at
    high, at = read_varint(data, at)
    return low & 127 | high << 7, at


def read_block(file: bytes, handle: bytes) -> list[tuple[bytes, bytes]]:
    """The entries of an uncompressed block of TensorFlow's, checksum not looked at."""
    offset, at = read_varint(handle, 0)
    size, _ = read_varint(handle, at)
    block = file[offset : offset + size]
    end, at, key, entries = size - 4 - 4 * int.from_bytes(block[-4:], "little"), 0, b"", []
    while at < end:
        shared, at = read_varint(block, at)
        fresh, at = read_varint(block, at)
        length, at = read_varint(block, at)
        key = key[:shared] + block[at : at + fresh]
        at += fresh + length
        entries.append((key, block[at - length : at]))
    return entries


def add_block(file: bytearray, entries: list[tuple[bytes, bytes]], every: int) -> bytes:
    """Append a snappy-compressed block with a restart at `every` so many entries, and return its handle."""
    block, restarts, previous = b"", [], b""
    for number, (key, value) in enumerate(entries):
        if number % every == 0:
            restarts, previous = [*restarts, len(block)], b""
        shared = next(
            (i for i, (a, b) in enumerate(zip(previous, key, strict=False)) if a != b), min(len(previous), len(key))
        )
        block += varint(shared) + varint(len(key) - shared) + varint(len(value)) + key[shared:] + value
        previous = key
    restarts = restarts or [0]
    block += np.array([*restarts, len(restarts)], "<u4").tobytes()
    packed = bytes(cramjam.snappy.compress_raw(block)) + b"\x01"
    crc = 0xFFFFFFFF
    for byte in packed:
        crc ^= byte
        for _ in range(8):
            crc = crc >> 1 ^ (0x82F63B78 if crc & 1 else 0)
    crc ^= 0xFFFFFFFF
    handle = varint(len(file)) + varint(len(packed) - 1)
    file += packed + (((crc >> 15 | crc << 17) + 0xA282EAD8) & 0xFFFFFFFF).to_bytes(4, "little")
    return handle


def compress_index(path: Path) -> None:
    """Write an index again as very old writers did, with snappy blocks; and with several of them."""
    old = path.read_bytes()
    _, at = read_varint(old[-48:], 0)
    _, at = read_varint(old[-48:], at)
    entries = [entry for _, handle in read_block(old, old[-48 + at :]) for entry in read_block(old, handle)]
    new = bytearray()
    cuts = [entries[i : i + 40] for i in range(0, len(entries), 40)]
    index = [(cut[-1][0], add_block(new, cut, 16)) for cut in cuts]
    footer = add_block(new, [], 16) + add_block(new, index, 1)
    path.write_bytes(new + footer.ljust(40, b"\0") + old[-8:])
    print(f"{path.name}: {len(old)} bytes in snappy blocks are {len(new) + 48}, {len(cuts)} data blocks")


def main() -> None:
    v1.disable_resource_variables()  # OpenAI's were reference variables
    shutil.rmtree(ROOT, ignore_errors=True)
    ROOT.mkdir(parents=True)
    os.chdir(ROOT)  # a Saver given relative paths leaves bare names in `checkpoint`
    write_vocabulary(save("openai", WHOLE), WHOLE)
    run = save("nshepperd", WHOLE | {"n_layer": 1}, steps=(900, 1000), prefix="model")
    (run / "counter").write_text("1000\n")
    run_hparams = WHOLE | {"n_head": 4, "n_layer": 1}
    run = save("gpt2simple", run_hparams, steps=(50, 100), prefix="model")
    (run / "counter").write_text("100\n")
    write_vocabulary(run, run_hparams)
    save("slots", slots=True)
    save("sharded", TINY | {"n_layer": 11, "n_embd": 4}, sharded=True, devices=("/cpu:0", "/cpu:1"))
    save("partitioned", partitioned=True)
    for dtype in (tf.bfloat16, tf.float16, tf.float64):
        save(dtype.name, dtype=dtype)
    save("v1", saver={"write_version": v1.train.SaverDef.V1})
    snappy = save("snappy", TINY | {"n_layer": 9, "n_embd": 4})
    before = tf.train.load_checkpoint("snappy/model.ckpt")
    wanted = {name: before.get_tensor(name) for name in before.get_variable_to_shape_map()}
    compress_index(snappy / "model.ckpt.index")
    verify("snappy/model.ckpt", wanted)
    values = {"wte": tf.Variable(tf.random.stateless_normal([20, 4], [1, 2])), "step": tf.Variable(3, dtype=tf.int64)}
    path = tf.train.Checkpoint(**values).save("object_based/ckpt")
    reader = tf.train.load_checkpoint(path)
    assert all(np.array_equal(reader.get_tensor(f"{n}/.ATTRIBUTES/VARIABLE_VALUE"), v) for n, v in values.items())
    sizes = {path: path.stat().st_size for path in sorted(ROOT.rglob("*")) if path.is_file()}
    print(*(f"{size:8} {path.relative_to(ROOT)}" for path, size in sizes.items()), sep="\n")
    print(f"{sum(sizes.values()):8} bytes in all")
    assert sum(sizes.values()) < 1_000_000


if __name__ == "__main__":
    main()
