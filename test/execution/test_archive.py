import contextlib
import gzip
import random
import tarfile
from collections.abc import Callable
from pathlib import Path

import pytest

from fedn_py.errors import PeerFault
from fedn_py.execution.archive import PackageWithoutManifest, inspect_archive, unpack
from fedn_py.execution.archive_scan import PackageLimits, PackageTooLarge, UnpackingFailed, UnsafeArchive
from fedn_py.execution.manifest import InvalidManifest


def test_a_sound_package_is_described_and_unpacked_into_the_folder_of_its_digest(
    archive_of: Callable[..., Path], member: Callable[..., object], tmp_path: Path
) -> None:
    file = archive_of(member("./sub/", type=tarfile.DIRTYPE), member("./sub/table.csv", b"1,2"))
    contents = inspect_archive(file)
    assert contents.manifest.name == "echo"
    assert set(contents.files) == {"fedn.yaml", "model.py", "sub/table.csv"}
    assert contents.archive_bytes == file.stat().st_size
    package = unpack(file, tmp_path / "cache")
    assert package.digest == contents.digest
    assert package.folder == tmp_path / "cache" / contents.digest
    assert (package.folder / "sub/table.csv").read_bytes() == b"1,2"
    assert [path.name for path in (tmp_path / "cache").iterdir()] == [contents.digest]


def test_a_package_that_is_unpacked_already_is_left_alone(archive_of: Callable[..., Path], tmp_path: Path) -> None:
    file = archive_of()
    first = unpack(file, tmp_path / "cache")
    (first.folder / "made-by-a-run").touch()
    assert unpack(file, tmp_path / "cache") == first
    assert (first.folder / "made-by-a-run").exists()


@pytest.mark.parametrize(
    ("name", "header", "why"),
    [
        ("../evil", {}, "leads out"),
        ("a/../../evil", {}, "leads out"),
        ("/etc/passwd", {}, "absolute"),
        ("C:evil", {}, "absolute"),
        ("a\\b", {}, "characters"),
        ("a\nb", {}, "characters"),
        ("x" * 300, {}, "too long"),
        ("d/" * 600 + "f", {}, "too long"),
        ("out", {"type": tarfile.SYMTYPE, "linkname": "/etc"}, "link"),
        ("in", {"type": tarfile.SYMTYPE, "linkname": "model.py"}, "link"),
        ("hard", {"type": tarfile.LNKTYPE, "linkname": "model.py"}, "link"),
        ("tty", {"type": tarfile.CHRTYPE}, "neither"),
        ("disk", {"type": tarfile.BLKTYPE}, "neither"),
        ("pipe", {"type": tarfile.FIFOTYPE}, "neither"),
        ("tape", {"type": tarfile.CONTTYPE}, "neither"),
        ("model.py", {}, "twice"),
        ("./model.py", {}, "twice"),
        ("MODEL.py", {}, "twice"),
        ("model.py/inside", {}, "twice"),
        ("model.py", {"type": tarfile.DIRTYPE}, "twice"),
    ],
)
def test_a_hostile_member_is_refused_and_nothing_is_unpacked(
    archive_of: Callable[..., Path], tmp_path: Path, name: str, header: dict[str, object], why: str
) -> None:
    hostile = tarfile.TarInfo(name)
    for field, value in header.items():
        setattr(hostile, field, value)
    file = archive_of((hostile, b""))
    for check in (inspect_archive, lambda file: unpack(file, tmp_path / "cache" / "deep")):
        with pytest.raises(UnsafeArchive, match=why):
            check(file)
    assert not (tmp_path / "cache").exists()
    assert not (tmp_path / "evil").exists()


def test_two_folders_that_differ_only_in_case_are_refused(
    archive_of: Callable[..., Path], member: Callable[..., object]
) -> None:
    with pytest.raises(UnsafeArchive, match="another case"):
        inspect_archive(archive_of(member("Data/a"), member("data/b")))


def test_a_name_in_other_bytes_than_utf8_is_refused(
    archive_of: Callable[..., Path], member: Callable[..., object]
) -> None:
    with pytest.raises(UnsafeArchive, match="characters"):
        inspect_archive(archive_of(member("caf\udce9")))


@pytest.mark.parametrize(
    ("limits", "what"),
    [
        (PackageLimits(archive_bytes=100), "bytes"),
        (PackageLimits(file_bytes=1_000), "a file 'zeros'"),
        (PackageLimits(total_bytes=10_000), "unpacked"),
        (PackageLimits(members=2), "files"),
    ],
)
def test_a_package_over_a_limit_is_refused(
    archive_of: Callable[..., Path], member: Callable[..., object], limits: PackageLimits, what: str
) -> None:
    with pytest.raises(PackageTooLarge, match=what):
        inspect_archive(archive_of(member("zeros", bytes(60_000))), limits)


def test_an_archive_that_swells_too_far_is_refused(
    archive_of: Callable[..., Path], member: Callable[..., object]
) -> None:
    with pytest.raises(UnsafeArchive, match="swells"):
        inspect_archive(archive_of(member("zeros", bytes(40 * 1024 * 1024))))


def test_a_package_without_manifest_is_refused_and_told_where_one_is(
    archive_of: Callable[..., Path], member: Callable[..., object]
) -> None:
    with pytest.raises(PackageWithoutManifest, match=r"project/fedn\.yaml") as fault:
        inspect_archive(archive_of(member("project/fedn.yaml", b"name: x"), sound=False))
    assert "package create" in fault.value.remedy


def test_a_manifest_that_names_a_missing_file_is_refused(
    archive_of: Callable[..., Path], member: Callable[..., object]
) -> None:
    manifest = b"name: a\nversion: 1\npython_env: env.yaml\n"
    manifest += b"entry_points: {train: {command: python t.py}, validate: {command: ./v}}"
    with pytest.raises(InvalidManifest, match=r"train runs 't\.py'.*validate runs 'v'.*env\.yaml"):
        inspect_archive(archive_of(member("fedn.yaml", manifest), sound=False))


def test_a_missing_archive_is_this_sides_fault(tmp_path: Path) -> None:
    with pytest.raises(UnpackingFailed, match="cannot be read"):
        inspect_archive(tmp_path / "missing.tar.gz")


def test_whatever_the_bytes_the_answer_is_a_named_fault(archive_of: Callable[..., Path], tmp_path: Path) -> None:
    sound = archive_of().read_bytes()
    plain = gzip.decompress(sound)
    draw = random.Random(7)
    hostile = [
        b"",
        b"hello",
        sound[: len(sound) // 2],
        sound[:-4],
        sound + b"trailing",
        gzip.compress(b""),
        gzip.compress(b"x" * 5_000),
    ]
    hostile += [gzip.compress(plain[:length]) for length in (100, 512, 700, 1500)]
    for _ in range(300):
        broken = bytearray(plain)
        for _ in range(draw.randrange(1, 6)):
            broken[draw.randrange(2_048)] = draw.randrange(256)
        # A valid checksum lets the damage through to the fields behind it.
        for start in (0, 1024):
            broken[start + 148 : start + 156] = b" " * 8
            broken[start + 148 : start + 156] = b"%06o\0 " % sum(broken[start : start + 512])
        hostile.append(gzip.compress(bytes(broken)))
    file = tmp_path / "hostile.tar.gz"
    for content in hostile:
        file.write_bytes(content)
        with contextlib.suppress(PeerFault):
            inspect_archive(file)
    for content in hostile[:7]:
        file.write_bytes(content)
        with pytest.raises(PeerFault):
            inspect_archive(file)


def a_header(**fields: bytes) -> bytes:
    header = tarfile.TarInfo("fedn.yaml").tobuf(tarfile.GNU_FORMAT)
    edited = bytearray(header)
    places = {"size": slice(124, 136), "type": slice(156, 157)}
    for name, value in fields.items():
        edited[places[name]] = value
    edited[148:156] = b" " * 8
    edited[148:156] = b"%06o\0 " % sum(edited)
    return bytes(edited)


@pytest.mark.parametrize(
    "plain",
    [
        a_header(size=b"\xff" * 11 + b"\x00") + bytes(10_240),  # a negative size that leads back to this header
        a_header(size=b"\xff" * 10 + b"\xfc\x00", type=b"x") + bytes(10_240),
        a_header(size=b"\x80" + bytes(3) + b"\x7f" * 8, type=b"x") + bytes(10_240),  # a pax header of petabytes
        a_header(size=b"\x80" + bytes(3) + b"\x7f" * 8, type=b"L") + bytes(10_240),
        a_header(size=b"\x80" + b"\x7f" * 11) + bytes(10_240),
        a_header(type=b"S") + bytes(10_240),
        a_header(type=b"x") * 20_000,  # headers that describe headers
        a_header(type=b"L") * 20_000,
    ],
)
def test_headers_that_lead_the_reader_astray_are_refused(plain: bytes, tmp_path: Path) -> None:
    file = tmp_path / "hostile.tar.gz"
    file.write_bytes(gzip.compress(plain))
    with pytest.raises(PeerFault):
        inspect_archive(file)


def test_a_folder_that_cannot_be_written_is_this_sides_fault(archive_of: Callable[..., Path], tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(UnpackingFailed):
        unpack(archive_of(), tmp_path / "file" / "cache")
