"""Broken and hostile files of weights: each is refused in one sentence, quickly, in little memory, nothing executed."""

import hashlib
import json
import math
import os
import pickle
import resource
import struct
import time
import zipfile
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import load as parse
from safetensors.torch import save as pack
from torch import nn

from studies.cifar10.loading import CARD, WEIGHTS, load, read_card, save
from studies.cifar10.network import SIZES, UNet

SECONDS, MEGABYTES = 2.0, 300


@pytest.fixture(scope="module")
def tiny():
    torch.manual_seed(0)
    network = UNet(**SIZES["tiny"])
    for parameter in network.parameters():
        nn.init.normal_(parameter, std=0.1)
    return network.eval()


@pytest.fixture
def folder(tmp_path, tiny):
    place = tmp_path / "net"
    save(tiny, place, name="tiny", architecture=SIZES["tiny"], parameterisation="edm")
    return place


def refused(source, words: str) -> str:
    """Refused in one sentence with these words, within the limits. Seconds are the processor's: others use it too."""
    began, before = _processor(), resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with pytest.raises(ValueError, match=words) as caught:
        load(source)
    seconds = _processor() - began
    grown = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024
    said = str(caught.value)
    assert seconds < SECONDS, f"{seconds:.2f} s"
    assert grown < MEGABYTES, f"{grown:.0f} MB"
    assert "\n" not in said and said.endswith(("...", ".")) and len(said) < 700, said
    return said


def _processor() -> float:
    used = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(u.ru_utime + u.ru_stime for u in used)


# --- files of weights; each makes the bytes anew, and the card declares their true checksum


def _declare(place: Path, raw: bytes) -> None:
    (place / WEIGHTS).write_bytes(raw)
    _change_card(place, sha256=hashlib.sha256(raw).hexdigest())


def _change_card(place: Path, **changes) -> None:
    found = json.loads((place / CARD).read_text()) | changes
    (place / CARD).write_text(json.dumps({k: v for k, v in found.items() if v is not ...}))


def _of_state(change):
    def make(raw: bytes) -> bytes:
        state = parse(raw)
        change(state)
        return pack(state)

    return make


def _set(value):
    return _of_state(lambda state: state["enter.weight"].view(-1)[0].fill_(value))


def _headed(change):
    """A file whose header, as a dict, is changed; or replaced, where text comes back."""

    def make(raw: bytes) -> bytes:
        (length,) = struct.unpack("<Q", raw[:8])
        header = json.loads(raw[8 : 8 + length])
        text = change(header)
        if text is None:
            text = json.dumps(header).encode()
        return struct.pack("<Q", len(text)) + text + raw[8 + length :]

    return make


def _entry(**changes):
    return _headed(lambda header: header["enter.weight"].update(changes))


def _twice(header):
    text = json.dumps(header)
    return f'{text[:-1]}, "enter.bias": {json.dumps(header["enter.bias"])}}}'.encode()


def _overlap(header):
    header["enter.weight"]["data_offsets"] = [n - 2 for n in header["enter.weight"]["data_offsets"]]


def _forward(header):
    last = max(header.values(), key=lambda entry: entry["data_offsets"][1])
    last["data_offsets"] = [n + 10**6 for n in last["data_offsets"]]


def _crowd(*again):
    """As many entries as a header holds, each well formed, and some of them again."""
    about = json.dumps({"dtype": "F16", "shape": [0], "data_offsets": [0, 0]})
    names = [f'"{i}": {about}' for i in (*range(30_000), *again)]
    return f"{{{', '.join(names)}}}".encode()


LENGTH = struct.Struct("<Q")
FILES = {
    "nothing": (lambda raw: b"", "between 1 and .* bytes; got 0"),
    "three bytes": (lambda raw: b"abc", "must be safetensors"),
    "a header cut short": (lambda raw: raw[:200], "with a header of 2 to"),
    "tensors cut short": (lambda raw: raw[:-100], "cut short, or damaged"),
    "a header of 2^63 bytes": (lambda raw: LENGTH.pack(2**63) + raw[8:], "got 9,223,372,036,854,775,808"),
    "a header longer than the file": (lambda raw: LENGTH.pack(len(raw)) + raw[8:], "with a header of 2 to"),
    "an empty header": (lambda raw: LENGTH.pack(0) + raw[8:], "got 0 in a file"),
    "a header that is a list": (_headed(lambda h: b"[1, 2]"), "must be an object; got list"),
    "a header that is no JSON": (_headed(lambda h: b"{'a': 1}"), "must be plain JSON"),
    "a header that is no text": (_headed(lambda h: b"\xff\xfe\xff\xfe"), "must be plain JSON"),
    "a million brackets": (_headed(lambda h: b"[" * 10**6), "nested too deep"),
    "a key twice": (_headed(_twice), "the key 'enter.bias' twice"),
    "a crowd of keys, one twice": (_headed(lambda h: _crowd(29_999)), "the key '29999' twice"),
    "a crowd of keys": (_headed(lambda h: _crowd()), "at most 10,000 tensors; got 30,000"),
    "overlapping tensors": (_headed(_overlap), "one after another"),
    "offsets beyond the file": (_headed(_forward), "must lie within the file's"),
    "a gap": (lambda raw: _of_state(lambda s: None)(raw) + b"\0" * 8, "must end with its last tensor"),
    "a negative shape": (_entry(shape=[-8, -3, 3, 3]), "a shape of numbers from 0"),
    "a shape of true": (_entry(shape=[True, 8]), "a shape of numbers from 0"),
    "a shape of terabytes": (_entry(shape=[2**28, 2**28]), "and have 144,115,188,075,855,872"),
    "offsets backwards": (_entry(data_offsets=[100, 10]), "must lie within"),
    "an integer of a thousand digits": (_entry(data_offsets=[0, 10**999]), "offsets of numbers from 0"),
    "no shape": (_headed(lambda h: h["enter.weight"].pop("shape") and None), "dtype, shape and data_offsets"),
    "integers for weights": (_entry(dtype="I16"), "F64, F32, F16, BF16; got I16"),
    "a dtype that is a list": (_entry(dtype=["F16"]), "F64, F32, F16, BF16"),
    "NaN": (_set(math.nan), "got NaN or infinity in enter.weight"),
    "infinity": (_set(math.inf), "got NaN or infinity in enter.weight"),
    "a missing weight": (_of_state(lambda s: s.pop("enter.weight")), "lacks 1: enter.weight"),
    "a weight too many": (_of_state(lambda s: s.update(more=torch.zeros(1))), "has besides 1: more"),
    "another shape": (_of_state(lambda s: s.update({"enter.bias": torch.zeros(3)})), r"must be \(8,\); got \(3,\)"),
    "names of control characters": (_of_state(lambda s: s.update({"a\nb\x1b" * 99: torch.zeros(1)})), "besides"),
    "a git-LFS pointer": (lambda raw: b"version https://git-lfs.github.com/spec/v1\noid sha256:00\n", "git lfs pull"),
    "a file of torch.save": (lambda raw: b"PK\x03\x04" + raw, "got a file of torch.save"),
}


@pytest.mark.parametrize("kind", FILES)
def test_a_broken_file_of_weights_is_refused(folder, kind):
    make, words = FILES[kind]
    _declare(folder, make((folder / WEIGHTS).read_bytes()))
    said = refused(folder, words)
    assert "\x1b" not in said


def test_the_file_that_they_all_began_as_is_taken(folder, tiny):
    _declare(folder, _headed(lambda header: None)((folder / WEIGHTS).read_bytes()))
    model = load(folder)
    for mine, theirs in zip(tiny.parameters(), model.network.parameters(), strict=True):
        assert torch.equal(mine.half().float(), theirs)


def test_what_is_no_file_is_refused_without_waiting_for_it(folder):
    raw = (folder / WEIGHTS).read_bytes()
    (folder / WEIGHTS).write_bytes(raw[:-1] + bytes([raw[-1] ^ 1]))
    refused(folder, "must have the declared sha256")
    (folder / WEIGHTS).unlink()
    refused(folder, "must be a file that can be read; got: No such file")
    os.mkfifo(folder / WEIGHTS)
    refused(folder, "must be a regular file; got a pipe")
    (folder / WEIGHTS).unlink()
    (folder / WEIGHTS).symlink_to("/dev/zero")
    refused(folder, "must be a regular file; got a device")
    (folder / WEIGHTS).unlink()
    (folder / WEIGHTS).mkdir()
    refused(folder, "must be a regular file; got a folder")
    (folder / WEIGHTS).rmdir()
    with (folder / WEIGHTS).open("wb") as file:
        file.truncate(2**33)  # sparse: takes no space
    refused(folder, "between 1 and 536,870,912 bytes; got 8,589,934,592")


# --- cards


def _conventions(**changes):
    def change(place):
        found = json.loads((place / CARD).read_text())["conventions"] | changes
        _change_card(place, conventions={k: v for k, v in found.items() if v is not ...})

    return change


def _architecture(**changes):
    def change(place):
        found = json.loads((place / CARD).read_text())["architecture"] | changes
        _change_card(place, architecture={k: v for k, v in found.items() if v is not ...})

    return change


def _text(change):
    return lambda place: (place / CARD).write_text(change((place / CARD).read_text()))


CARDS = {
    "no conventions": (lambda p: _change_card(p, conventions=...), "must declare conventions"),
    "no kind": (_conventions(kind=...), "conventions must declare kind"),
    "no time": (_conventions(time=...), "conventions must declare time"),
    "no null label": (_conventions(null_label=...), "conventions must declare null_label"),
    "a kind unheard of": (_conventions(kind="score"), "kind must be one of eps, x0, v, velocity, edm; got score"),
    "a time unheard of": (_conventions(time="index"), "time must be one of"),
    "a process unheard of": (_conventions(process={"name": "os.system"}), "must be one of edm, .*; got os.system"),
    "a process without betas": (_conventions(process={"name": "vp_table"}), "must declare betas"),
    "betas that are none": (_conventions(process={"name": "vp_table", "betas": [0.5, 2]}), "numbers in .0, 1."),
    "a process of text": (_conventions(process={"name": "edm", "t_max": "80"}), "numbers for t_max"),
    "a process of nothing": (_conventions(process={"name": "edm", "t_max": 0}), "lambda|none"),
    "a preconditioning of nothing": (_conventions(sigma_data=None), "needs sigma_data > 0"),
    "a preconditioning of another": (_conventions(kind="eps"), "sigma_data is for the kind 'edm' only"),
    "a range upside down": (_conventions(range=[1, -1]), "range must be two numbers"),
    "another number of labels": (_conventions(labels=9, null_label=9), "its card's conventions have labels=9"),
    "an architecture unheard of": (_architecture(**{"class": "os.system"}), "class must be 'UNet'; got os.system"),
    "arguments unheard of": (_architecture(command="rm"), "may have labels and dropout"),
    "an architecture of terabytes": (_architecture(channels=[2048] * 4, blocks=16, attention=[True] * 4), "holds"),
    "a billion blocks": (_architecture(blocks=10**9), "blocks must be a number from 1 to 16"),
    "blocks of text": (_architecture(blocks="1"), "blocks must be a number"),
    "sizes that do not fit": (_architecture(attention=[True]), "one entry for each"),
    "a field unheard of": (lambda p: _change_card(p, colour="red"), "got also colour"),
    "no name": (lambda p: _change_card(p, name=...), "must declare name"),
    "a name of numbers": (lambda p: _change_card(p, name=3), "name must be text; got 3"),
    "a checksum of another kind": (lambda p: _change_card(p, sha256="md5"), "64 hexadecimal digits"),
    "half a card": (_text(lambda text: text[:100]), "must be plain JSON"),
    "a card that is a list": (_text(lambda text: "[]"), "must be an object"),
    "a card twice": (_text(lambda text: text.rstrip()[:-1] + ', "name": "b"}'), "the key 'name' twice"),
    "a card with NaN": (_text(lambda text: text.replace('"images_seen": 0', '"images_seen": NaN')), "NaN where"),
    "a card of megabytes": (_text(lambda text: text + " " * 2**21), "between 1 and 1,048,576"),
    "a card of brackets": (_text(lambda text: "[" * 10**6), "nested too deep"),
    "no card": (lambda p: (p / CARD).unlink(), "must hold card.json"),
}


@pytest.mark.parametrize("kind", CARDS)
def test_a_card_that_does_not_declare_is_refused(folder, kind):
    change, words = CARDS[kind]
    change(folder)
    refused(folder, words)


# --- files of torch.save


class Evil:
    def __init__(self, mark):
        self.mark = mark

    def __reduce__(self):
        return os.mkdir, (str(self.mark),)


def _zipped(path: Path, parts: dict[str, bytes], how=zipfile.ZIP_STORED) -> None:
    with zipfile.ZipFile(path, "w", how) as archive:
        for name, content in parts.items():
            archive.writestr(f"archive/{name}", content)


def _without_storage(path, network, mark):
    torch.save(network.state_dict(), path)
    with zipfile.ZipFile(path) as archive:
        parts = {n.split("/", 1)[1]: archive.read(n) for n in archive.namelist() if not n.endswith("/data/0")}
    _zipped(path, parts)


def _damaged_directory(path, network, mark):
    torch.save(network.state_dict(), path)
    raw = bytearray(path.read_bytes())
    at = raw.rfind(b"PK\x05\x06")
    raw[at + 12 : at + 16] = b"\xff\xff\xff\x7f"
    path.write_bytes(raw)


def _cut(path, network, mark):
    torch.save(network.state_dict(), path)
    path.write_bytes(path.read_bytes()[:-2000])


TORCH = {
    "a command": (lambda p, n, m: torch.save({"a": Evil(m)}, p), "asks for posix.mkdir"),
    "a command in a bare pickle": (lambda p, n, m: p.write_bytes(pickle.dumps(Evil(m))), "begins with"),
    "a command under another protocol": (
        lambda p, n, m: _zipped(p, {"data.pkl": pickle.dumps(Evil(m), protocol=4)}),
        "asks for the operation FRAME",
    ),
    "a second pickle": (
        lambda p, n, m: _zipped(p, {"data.pkl": b"\x80\x02}.", "constants.pkl": pickle.dumps(Evil(m))}),
        "one pickle",
    ),
    "a whole module": (lambda p, n, m: torch.save(n, p), "asks for studies.cifar10.network.UNet"),
    "the old format": (lambda p, n, m: torch.save({}, p, _use_new_zipfile_serialization=False), "begins with"),
    "a bomb": (lambda p, n, m: _zipped(p, {"data.pkl": b"\0" * 10**7}, zipfile.ZIP_DEFLATED), "zip bomb"),
    "a pickle of megabytes": (lambda p, n, m: _zipped(p, {"data.pkl": b"N" * 2**21}), "at most 262,144 bytes"),
    "a memo of gigabytes": (
        lambda p, n, m: _zipped(p, {"data.pkl": b"\x80\x02}r\xff\xff\xff\x7f."}),
        "in order; got 2,147,483,647",
    ),
    "a long way to nothing": (
        lambda p, n, m: _zipped(p, {"data.pkl": b"\x80\x02" + b"N" * 262_000 + b"."}),
        "dict of names and floating tensors; got",
    ),
    "half a pickle": (lambda p, n, m: _zipped(p, {"data.pkl": b"\x80\x02}q"}), "whole pickle"),
    "cut short": (_cut, "whole zip file"),
    "a directory of gigabytes": (_damaged_directory, "must list its parts in at most"),
    "a missing storage": (_without_storage, "one dict of names and floating tensors; got"),
    "a dict in a dict": (lambda p, n, m: torch.save({"model": n.state_dict()}, p), "model is OrderedDict"),
    "a list": (lambda p, n, m: torch.save(list(n.state_dict().values()), p), "got: a list"),
    "integers": (lambda p, n, m: torch.save({"a": torch.zeros(3, dtype=torch.long)}, p), "asks for torch.LongStorage"),
    "a tensor of terabytes": (
        lambda p, n, m: torch.save({"a": torch.zeros(1).expand(2**20, 2**20)}, p),
        "tensors of 4,398,046,511,104 bytes",
    ),
    "another network": (lambda p, n, m: torch.save({"a": torch.zeros(9999)}, p), "lacks|must hold the weights"),
    "NaN": (
        lambda p, n, m: torch.save({k: v * math.nan for k, v in n.state_dict().items()}, p),
        "got NaN or infinity",
    ),
}


@pytest.mark.parametrize("kind", TORCH)
def test_a_file_of_torch_save_that_is_more_than_tensors_is_refused(folder, tiny, kind):
    make, words = TORCH[kind]
    path, mark = folder / "bare.pt", folder / "executed"
    make(path, tiny, mark)
    _change_card(folder, sha256=hashlib.sha256(path.read_bytes()).hexdigest())
    refused(path, words)
    assert not mark.exists()
    assert sorted(p.name for p in folder.iterdir()) == ["bare.pt", CARD, WEIGHTS]


def test_a_mark_is_made_where_a_stranger_is_trusted(tmp_path):
    """The control: the file that is refused above does what it threatens."""
    torch.save({"a": Evil(tmp_path / "executed")}, tmp_path / "bare.pt")
    torch.load(tmp_path / "bare.pt", weights_only=False)
    assert (tmp_path / "executed").exists()


def test_a_bare_state_dict_with_a_declared_architecture_is_the_network(folder, tiny):
    path = folder.parent / "bare.pt"
    torch.save(tiny.state_dict(), path)
    refused(path, "must come with a card, bare.json or card.json: .* declared, never guessed")
    declared = replace(read_card(folder), sha256=hashlib.sha256(path.read_bytes()).hexdigest())
    model = load(path, card=declared)
    x, at = torch.randn(2, 3, 32, 32, generator=torch.Generator().manual_seed(0)), model.process.level(0.5)
    again = load(folder)(x, at).x0
    assert torch.allclose(model(x, at).x0, again, atol=2e-3)  # float32 weights against float16 ones
    assert not torch.equal(model(x, at).x0, again)
    for mine, theirs in zip(tiny.parameters(), model.network.parameters(), strict=True):
        assert torch.equal(mine, theirs)


def test_the_child_that_unpickles_is_bounded_in_memory_and_time(monkeypatch, folder, tiny):
    from studies.cifar10 import pickles

    path = folder / "bare.pt"
    torch.save(tiny.state_dict(), path)
    _change_card(folder, sha256=hashlib.sha256(path.read_bytes()).hexdigest())
    load(path)
    monkeypatch.setattr(pickles.torch, "load", lambda *given, **more: bytearray(2**30))
    refused(path, "more than its memory allowance")
    monkeypatch.setattr(pickles.torch, "load", lambda *given, **more: os.kill(os.getpid(), 9))
    refused(path, "ended with status -9")
    monkeypatch.setattr(pickles.torch, "load", lambda *given, **more: time.sleep(60))
    monkeypatch.setattr(pickles, "WALL_SECONDS", 0.2)
    refused(path, "no end of reading it within 0.2 s")


def test_weights_that_float16_cannot_hold_are_not_written(tmp_path):
    network = UNet(**SIZES["tiny"])
    nn.init.constant_(network.enter.weight, 1e5)
    with pytest.raises(ValueError, match="below 65,504; got others in enter"):
        save(network, tmp_path / "net", name="tiny", architecture=SIZES["tiny"], parameterisation="edm")
    assert not (tmp_path / "net").exists()


def test_our_reader_and_the_library_read_the_same(folder, tiny):
    library = parse((folder / WEIGHTS).read_bytes())
    mine = load(folder).network.state_dict()
    assert set(library) == set(mine)
    assert all(torch.equal(library[name].float(), mine[name]) for name in mine)


def test_what_was_written_is_read(folder):
    first = read_card(folder)
    assert first.conventions.kind == "edm" and first.conventions.null_label == 10
    text = (folder / CARD).read_text()
    assert json.loads(text) == first.as_json()
    assert read_card(folder / CARD) == first
    assert first.as_json()["architecture"]["class"] == "UNet"
    assert first.as_json()["conventions"]["process"] == {"name": "edm", "t_max": 80.0}
