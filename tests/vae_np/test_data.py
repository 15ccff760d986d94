"""Data sets by name and by file: what is read, how it is split, and what is said of a file that cannot be read."""

import gzip
import hashlib
import io
import os
import pathlib
import re
import tempfile

import numpy as np
import pooch
import pytest
import requests
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.datasets import load_digits

from vae_np import Architecture, data, table

# "One clear sentence" leaves no room for a warning of NumPy's beside it.
pytestmark = pytest.mark.filterwarnings("error::UserWarning", "error::RuntimeWarning", "error::DeprecationWarning")


def pixels(*shape):
    return np.random.default_rng(0).random(shape)


def numbered(n, n_inputs=5):
    """Rows of which the first input is the row's number, so that a row can be told wherever it went."""
    x = pixels(n, n_inputs)
    x[:, 0] = np.arange(n)
    return x


@pytest.mark.parametrize("by", ["file", "package"])
def test_the_digits_are_those_of_scikit_learn_read_from_its_file_or_else_by_the_package(by, monkeypatch):
    theirs = load_digits()
    if by == "file":
        monkeypatch.setattr("sklearn.datasets.load_digits", None)
    else:
        monkeypatch.setattr(data.importlib.util, "find_spec", lambda name: None)
    for own, wanted in zip(data.digits(), (theirs.data, theirs.target), strict=True):
        assert own.dtype == wanted.dtype and (own == wanted).all()


def savecsv(path, x):
    np.savetxt(path, x, delimiter=",")


def refusal(name, *arguments, kind=ValueError, **options):
    """What is said on refusing the data: one line."""
    with pytest.raises(kind) as caught:
        data.load(str(name), *arguments, **options)
    message = str(caught.value)
    assert message and "\n" not in message
    return message


# ------------------------------------------------------------------------------------------------------------- digits


def test_digits_is_the_default_and_has_1797_grey_images_in_0_to_1():
    train, valid, train_labels, valid_labels, shape = data.load()
    assert len(train) + len(valid) == len(train_labels) + len(valid_labels) == 1797
    assert train.shape[1] == valid.shape[1] == 64 and shape == (8, 8)
    assert train.min() == valid.min() == 0 and train.max() == valid.max() == 1
    assert set(train_labels) == set(valid_labels) == set(range(10))


def test_digits_are_split_into_parts_that_are_disjoint_and_complete():
    from sklearn.datasets import load_digits

    dataset, all_rows = data.load("digits"), load_digits()
    wanted = [(row.tobytes(), label) for row, label in zip(all_rows.data / 16, all_rows.target)]
    rows, labels = np.concatenate(dataset[:2]), np.concatenate(dataset[2:4])
    # All 1797 images differ, so that the same images with the same labels mean that none is lost or in both parts.
    assert len(set(wanted)) == 1797
    assert sorted(wanted) == sorted((row.tobytes(), label) for row, label in zip(rows, labels))


def test_digits_are_the_same_on_every_call_even_if_the_caller_writes_into_them():
    first = data.load("digits")
    kept = [array.copy() for array in first[:4]]
    first.train[...] = 7
    for array, again in zip(kept, data.load("digits")):
        np.testing.assert_array_equal(array, again)


def test_the_held_out_digits_are_these_for_ever():
    # Written down once: were they others in another version, its losses could not be compared with this one's.
    assert data.load("digits").valid_labels[:12].tolist() == [2, 8, 8, 4, 7, 0, 1, 0, 1, 2, 6, 3]


@settings(deadline=None, max_examples=25)
@given(n=st.integers(2, 80), fraction=st.floats(0.02, 0.98))
def test_any_file_is_split_into_two_parts_of_the_wanted_sizes_with_every_row_in_one_of_them(n, fraction):
    with tempfile.TemporaryDirectory() as folder:
        path = os.path.join(folder, "rows.npy")
        np.save(path, numbered(n))
        if not 0 < round(n * fraction) < n:
            assert path in refusal(path, valid_fraction=fraction)
            return
        dataset = data.load(path, valid_fraction=fraction)
    assert len(dataset.valid) == round(n * fraction)
    assert sorted([*dataset.train[:, 0], *dataset.valid[:, 0]]) == list(range(n))


@pytest.mark.parametrize("fraction", [0.01, 1, -0.5, 2, float("nan"), float("inf")])
def test_a_fraction_that_leaves_a_part_empty_is_named(tmp_path, fraction):
    np.save(tmp_path / "x.npy", pixels(10, 3))
    assert "fraction" in refusal(tmp_path / "x.npy", valid_fraction=fraction)


@pytest.mark.parametrize("suffix", [".npy", ".npz", ".csv"])
def test_a_fraction_of_0_holds_no_row_out(tmp_path, suffix):
    x, path = pixels(10, 3), str(tmp_path / f"x{suffix}")
    {".npy": np.save, ".npz": lambda path, x: np.savez(path, x=x, labels=np.arange(10)), ".csv": savecsv}[suffix](path, x)
    dataset = data.load(path, valid_fraction=0)
    assert dataset.train.tolist() == x.tolist() and dataset.valid is dataset.valid_labels is None
    assert dataset.shown[0] is dataset.train and dataset.part == "training"
    assert dataset.train_labels is None or dataset.train_labels.tolist() == list(range(10))


# -------------------------------------------------------------------------------------------------------------- files


def test_an_npz_of_x_alone_has_no_labels_and_keeps_its_bytes(tmp_path):
    x = np.arange(60, dtype=np.uint8).reshape(12, 5)
    np.savez(tmp_path / "a.npz", x=x)
    dataset = data.load(str(tmp_path / "a.npz"))
    assert dataset.train.dtype == np.uint8  # bytes mean 0..255; as floats they would mean themselves
    assert dataset.train_labels is None and dataset.valid_labels is None and dataset.image_shape is None
    assert sorted(np.concatenate(dataset[:2]).tolist()) == x.tolist()


@pytest.mark.parametrize("value", [0, 2, 255])
@pytest.mark.parametrize("suffix", [".npz", ".npy"])
def test_pictures_that_are_all_black_or_white_are_bytes_as_others_are(tmp_path, suffix, value):
    images, path = np.full((10, 3, 3), value, np.uint8), str(tmp_path / f"a{suffix}")
    np.savez(path, x=images) if suffix == ".npz" else np.save(path, images)
    dataset = data.load(path)
    for part, n in ((dataset.train, 8), (dataset.valid, 2)):
        assert part.dtype == np.uint8 and part.shape == (n, 9) and (part == value).all()
        assert Architecture(9).check_inputs(part).dtype == np.uint8
    assert dataset.image_shape == (3, 3)


@pytest.mark.parametrize("labels", [np.arange(20), np.array([f"kind {i}" for i in range(20)])], ids=["numbers", "text"])
def test_labels_stay_with_their_rows(tmp_path, labels):
    np.savez(tmp_path / "a.npz", x=numbered(20), labels=labels)
    dataset = data.load(str(tmp_path / "a.npz"))
    for x, found in ((dataset.train, dataset.train_labels), (dataset.valid, dataset.valid_labels)):
        np.testing.assert_array_equal(found, labels[x[:, 0].astype(int)])


def test_train_and_valid_are_taken_as_they_are(tmp_path):
    train, valid, labels = pixels(6, 4), pixels(3, 4) / 2, np.arange(3)
    np.savez_compressed(tmp_path / "a.npz", train=train, valid=valid, valid_labels=labels)
    dataset = data.load(str(tmp_path / "a.npz"))
    np.testing.assert_array_equal(dataset.train, train)
    np.testing.assert_array_equal(dataset.valid, valid)
    np.testing.assert_array_equal(dataset.valid_labels, labels)
    assert dataset.train_labels is None and dataset.image_shape == (2, 2)


@pytest.mark.parametrize("rows", ["train", "x_train"])
@pytest.mark.parametrize("fraction", [0, 0.5])
def test_rows_to_train_on_alone_are_trained_on_without_validation(tmp_path, rows, fraction):
    np.savez(tmp_path / "a.npz", **{rows: pixels(6, 4)})
    dataset = data.load(str(tmp_path / "a.npz"), valid_fraction=fraction)
    assert dataset.train.tolist() == pixels(6, 4).tolist() and dataset.valid is None


@pytest.mark.parametrize("rows, labels", {"x": "labels", "X": "y", "arr_0": "labels"}.items())
def test_rows_are_found_under_the_names_that_people_use(tmp_path, rows, labels):
    np.savez(tmp_path / "a.npz", **{rows: numbered(10), labels: np.arange(10)})
    dataset = data.load(str(tmp_path / "a.npz"))
    assert sorted([*dataset.train[:, 0], *dataset.valid[:, 0]]) == list(range(10))
    assert dataset.train_labels.tolist() == dataset.train[:, 0].tolist()
    assert dataset.taken == f"{rows} is taken to train on"


@pytest.mark.parametrize("rows, held_out", {"train": "valid", "x_train": "x_test"}.items())
def test_parts_are_found_under_the_names_that_people_use_with_labels_in_a_column_too(tmp_path, rows, held_out):
    labels = {"train": ("train_labels", "valid_labels"), "x_train": ("y_train", "y_test")}[rows]
    arrays = {held_out: pixels(3, 2, 4), rows: pixels(6, 2, 4), labels[0]: np.arange(6)[:, None], labels[1]: np.arange(3)}
    np.savez(tmp_path / "a.npz", other=np.zeros(1), **arrays)
    dataset = data.load(str(tmp_path / "a.npz"))
    assert dataset.train.tolist() == arrays[rows].reshape(6, 8).tolist()
    assert dataset.valid.tolist() == arrays[held_out].reshape(3, 8).tolist() and dataset.image_shape == (2, 4)
    assert (dataset.train_labels.tolist(), dataset.valid_labels.tolist()) == (list(range(6)), list(range(3)))
    assert dataset.taken == f"{rows} is taken to train on, and {held_out} to validate with"


@pytest.mark.parametrize("suffix", [".npz", ".npy"])
@pytest.mark.parametrize("shape", [(10, 3, 7, 1), (10, 1, 3, 7)])
def test_images_of_one_channel_are_images(tmp_path, shape, suffix):
    path = str(tmp_path / f"a{suffix}")
    {".npz": lambda: np.savez(path, x=pixels(*shape)), ".npy": lambda: np.save(path, pixels(*shape))}[suffix]()
    dataset = data.load(path, valid_fraction=0)
    assert dataset.image_shape == (3, 7) and dataset.train.tolist() == pixels(10, 21).tolist()


def test_objects_block_a_file_only_where_they_are_needed(tmp_path, caplog):
    np.savez(tmp_path / "a.npz", x=numbered(10), meta=OBJECTS, labels=np.array(["a"] * 10, dtype=object))
    dataset = data.load(str(tmp_path / "a.npz"))
    assert len(dataset.train) == 8 and dataset.train_labels is None
    assert [record.message.partition(":")[0] for record in caplog.records] == ["the labels are left out"]
    np.savez(tmp_path / "a.npz", x=OBJECTS, meta=numbered(10))
    assert "in its x, there are Python objects" in refusal(tmp_path / "a.npz")


def test_the_shape_of_the_images_is_that_of_those_to_train_on(tmp_path):
    images = pixels(6, 3, 7)
    np.savez(tmp_path / "a.npz", train=images, valid=images[:2].reshape(2, 21))
    np.savez(tmp_path / "b.npz", train=images.reshape(6, 21), valid=images[:2])
    assert [data.load(str(tmp_path / name)).image_shape for name in ("a.npz", "b.npz")] == [(3, 7), None]


def test_pictures_of_truths_are_black_and_white(tmp_path):
    x = pixels(10, 4) > 0.5
    np.savez(tmp_path / "a.npz", x=x)
    dataset = data.load(str(tmp_path / "a.npz"))
    assert sorted(np.concatenate(dataset[:2]).tolist()) == sorted(x.tolist())
    assert set(Architecture(4).check_inputs(dataset.train).ravel()) == {0.0, 1.0}


@pytest.mark.parametrize("suffix", [".npz", ".npy"])
def test_images_become_rows_and_their_shape_is_kept(tmp_path, suffix):
    images, path = pixels(10, 3, 7), str(tmp_path / f"a{suffix}")
    if suffix == ".npz":
        np.savez(path, x=images)
    else:
        np.save(path, images)
    dataset = data.load(path)
    assert dataset.image_shape == (3, 7) and dataset.train.shape == (8, 21)
    rows = {row.tobytes() for row in images.reshape(10, 21)}
    assert all(row.tobytes() in rows for row in dataset.train)


@pytest.mark.parametrize(("n_inputs", "shape"), [(1, None), (4, (2, 2)), (15, None), (16, (4, 4)), (17, None)])
def test_rows_that_make_a_square_are_shown_as_one(tmp_path, n_inputs, shape):
    np.save(tmp_path / "a.npy", pixels(5, n_inputs))
    assert data.load(str(tmp_path / "a.npy")).image_shape == shape


@pytest.mark.parametrize(
    "header",
    [
        "",
        "width,height,depth\n",
        "# width,height,depth\n",
        '"width","1","2"\n',
        "# by me\n\n \nwidth,height,depth\n#\n",
    ],
)
def test_a_csv_is_read_with_or_without_a_line_of_names(tmp_path, header):
    x = pixels(10, 3)
    path = tmp_path / "a.CSV"  # the ending in either case
    path.write_text(header + "".join(",".join(map(repr, row)) + "\n" for row in x.tolist()))
    dataset = data.load(str(path))
    assert sorted(np.concatenate(dataset[:2]).tolist()) == sorted(x.tolist())


def test_a_csv_of_one_column_has_rows_of_one_input(tmp_path):
    savecsv(tmp_path / "a.csv", np.arange(10.0))
    dataset = data.load(str(tmp_path / "a.csv"))
    assert dataset.train.shape == (8, 1) and sorted(np.concatenate(dataset[:2])[:, 0]) == list(range(10))


# ------------------------------------------------------------------------------------------------------------- tables

COUNTING = "".join(f"{i},0.5,{i / 10}\n" for i in range(4))
TABLES = {  # what stands in the file: (its text, whether its first line is taken for names, its first column for an index)
    "numbers": ("0.5,1,2\n3,4,5\n", False, False),
    "names": ("a,b\n0,1\n1,1\n", True, False),
    "names of pandas": ("0,1,2\n0.5,0.1,7\n2,2,2\n", True, False),
    "names and index of pandas": (",0,1\n0,0.5,0.1\n1,2,2\n2,3,3\n", True, True),
    "index of pandas and one column": (",0\n0,0.5\n1,2\n", True, True),
    "index of pandas that begins at 1": (",a\n1,0.5\n2,2\n", True, True),
    "index of R": ('"a","b"\n"1",0.5,0.1\n"2",2,3\n', True, True),
    "index of R with a column of no name": ('"","a"\n"1",0.5\n"2",2\n', True, True),
    "names between quotes": ('"1.5","7"\n0.5,1\n3,4\n', True, False),
    "all between quotes": ('"0.5","1"\n"3","4"\n', False, False),
    "separators in names": ('"a, b; c","d\te"\n0.5,1\n3,4\n', True, False),
    "names that hold digits": ("x1,x2\n0.5,1\n3,4\n", True, False),
    "two rows that count": ("0.5,0\n1,3\n", False, False),
    "a first column that counts and has a name": ("time,b\n0,0.5\n1,3\n2,3\n", True, False),
    "semicolons": ("a;b\n0.5;1\n3;4\n", True, False),
    "tabs": ("a\tb\n0.5\t1\n3\t4\n", True, False),
    "empty lines and remarks": ("\n# by me\na,b\n\n0.5,1  # the first\n3,4\n\n\n", True, False),
    "no end of the last line": ("0.5,1\n3,4", False, False),
}
WRITTEN = {  # how a text becomes bytes
    "plain": lambda text: text.encode(),
    "of a spreadsheet": lambda text: text.replace("\n", "\r\n").encode("utf-8-sig"),
    "of a spreadsheet, as Unicode text": lambda text: text.replace("\n", "\r\n").encode("utf-16"),
}


def numbers_of(text, header, index):
    """The table by other means: of the lines' cells, those that are neither names nor an index."""
    lines = [
        re.split("[,;\t]", line.partition("#")[0].replace('"', "")) for line in text.splitlines() if line.partition("#")[0]
    ]
    return [[float(cell) for cell in line[index:]] for line in lines[header:]]


@pytest.mark.parametrize("written", WRITTEN)
@pytest.mark.parametrize("what", TABLES)
def test_a_table_is_read_as_it_is_meant_and_what_was_taken_is_told(tmp_path, what, written):
    text, header, index = TABLES[what]
    (tmp_path / "a.csv").write_bytes(WRITTEN[written](text))
    x, words = table.read(tmp_path / "a.csv")
    assert x.tolist() == numbers_of(text, header, index)
    assert f"{len(x)} rows of {x.shape[1]} columns" in words and ("first line taken for names" in words) == header
    assert ("first column for the rows' index" in words) == index


@pytest.mark.parametrize(
    "text, option, answers",
    [
        ("0,1\n0.5,2\n3,4\n", "header", [True, False]),  # names of pandas, or a row of zeros and ones
        ("1,2,3\n0.5,2,9\n3,4,9\n", "header", [True, False]),
        ("a,2\n0.5,2\n3,4\n", "header", [True]),
        ("0\n0.5\n3\n", "header", [True, False]),
        (COUNTING, "index", [True, False]),
        (f"id,b,c\n{COUNTING}", "index", [True, False]),
        (f"Index,b,c\n{COUNTING}", "index", [True, False]),
        (f",b,c\n{COUNTING[:10]}{COUNTING[20:]}", "index", [True, False]),  # of which a row was taken out
    ],
)
def test_what_is_not_certain_is_asked_and_the_option_settles_it(tmp_path, text, option, answers):
    (tmp_path / "a.csv").write_text(text)
    assert f"--csv-{option} yes or no" in refusal(tmp_path / "a.csv")
    for said in answers:
        x, _ = table.read(tmp_path / "a.csv", **{option: said})
        header = said if option == "header" else text != COUNTING
        assert x.tolist() == numbers_of(text, header, said and option == "index")


def test_an_index_of_words_is_passed_over_where_it_is_said_to_be_one(tmp_path):
    (tmp_path / "a.csv").write_text(",a,b\n2020-01-01,0.5,1\n2020-01-02,3,4\n")
    assert "line 2 has '2020-01-01' in cell 1" in (said := refusal(tmp_path / "a.csv")) and "--csv-index yes" in said
    assert table.read(tmp_path / "a.csv", index=True)[0].tolist() == [[0.5, 1], [3, 4]]


@pytest.mark.parametrize(
    "text, wanted",
    {
        "a,b\n\n1,2\n3,\n": "line 4 has nothing in cell 2: fill it",
        "0.5,,1\n1,2,3\n": "line 1 has nothing in cell 2: fill it",
        "0.5,2,\n1,2,\n": "line 1 has nothing in cell 3: fill it",
        "a,b\n1,2\n3,NaN\n": "line 3 has nan in cell 2, which is NaN or infinite: fill it",
        "a,b\n1,2\n3,NA\n": "line 3 has 'NA' in cell 2, which is no number",
        '"a","b"\n"1","x"\n': "line 2 has 'x' in cell 2, which is no number",
        "a,b\n0.5,1\n3,4,5\n": "line 3 has 3 cells, and those before it have 2",
        "a,b,c\n0.5,1\n3,4\n5,6\n": "",
        "a,b,c,d\n0.5,1\n3,4\n": "line 1 has 4 names, and the lines after it have 2 cells",
        "0,5;1,5\n2,5;3,5\n": "line 1 has commas and semicolons: save it with commas, and with points inside numbers",
        "a;b\n0,5;1,5\n": "line 2 has '0,5' in cell 1, which is no number: save it with points inside numbers",
        "0.5 1 2\n3 4 5\n": "line 2 has '3 4 5' in cell 1, which is no number: save it with commas between cells",
        "a,b\n": "a line of names, and no line of numbers",
        "# a\n\n": "no line of numbers",
    }.items(),
)
def test_of_a_table_that_is_none_the_line_and_the_remedy_are_told(tmp_path, text, wanted):
    (tmp_path / "a.tsv").write_text(text)
    assert wanted in refusal(tmp_path / "a.tsv")


def test_names_in_any_encoding_are_passed_over(tmp_path):
    (tmp_path / "a.csv").write_bytes("größe,höhe\n0.5,1\n3,4\n".encode("cp1252"))
    assert table.read(tmp_path / "a.csv")[0].tolist() == [[0.5, 1], [3, 4]]


# --------------------------------------------------------------------------------------------- files that are broken


def npy(array):
    file = io.BytesIO()
    np.save(file, array, allow_pickle=True)
    return file.getvalue()


def npz(**arrays):
    file = io.BytesIO()
    np.savez(file, **arrays)
    return file.getvalue()


X, OBJECTS = pixels(10, 4), np.array([{}, None], dtype=object)
BROKEN = {  # what is wrong: (ending, content)
    "empty npz": (".npz", b""),
    "empty npy": (".npy", b""),
    "empty csv": (".csv", b""),
    "truncated npz": (".npz", npz(x=X)[:300]),
    "truncated npy": (".npy", npy(X)[:-40]),
    "half a header": (".npy", npy(X)[:50]),
    "npz called npy": (".npy", npz(x=X)),
    "npy called npz": (".npz", npy(X)),
    "pickle in an npz": (".npz", npz(x=OBJECTS)),
    "pickle in an npy": (".npy", npy(OBJECTS)),
    "other keys": (".npz", npz(images=X)),
    "no keys": (".npz", npz()),
    "vector in an npz": (".npz", npz(x=X[0])),
    "vector in an npy": (".npy", npy(X[0])),
    "a number": (".npz", npz(x=3.0)),
    "text": (".npz", npz(x=X.astype(str))),
    "complex numbers": (".npz", npz(x=X + 0j)),
    "three channels": (".npz", npz(x=np.zeros((10, 2, 2, 3)))),
    "one row in an npz": (".npz", npz(x=X[:1])),
    "one row in an npy": (".npy", npy(X[:1])),
    "one row in a csv": (".csv", b"0.5,2\n"),
    "no rows": (".npz", npz(x=X[:0])),
    "no images": (".npz", npz(x=np.zeros((0, 2, 2)))),
    "images of no width": (".npz", npz(x=np.zeros((10, 2, 0)))),
    "valid of another width": (".npz", npz(train=X, valid=X[:, :3])),
    "fewer labels than rows": (".npz", npz(x=X, labels=np.arange(9))),
    "more labels than rows": (".npz", npz(x=X, labels=np.arange(11))),
    "one label for all": (".npz", npz(x=X, labels=3)),
    "labels as rows": (".npz", npz(x=X, labels=np.eye(10))),
    "fewer valid labels than rows": (".npz", npz(train=X, valid=X, valid_labels=np.arange(4))),
    "fewer train labels than rows": (".npz", npz(train=X, valid=X, train_labels=np.arange(4))),
    "words in a csv": (".csv", b"1,2\n3,four\n5,6\n"),
    "a word in the first row of a csv": (".csv", b"1,two\n3,4\n5,6\n"),
    "only words": (".csv", b"some words\nand others\nand more\n"),
    "lines of unequal length": (".csv", b"1,2\n3,4,5\n6,7\n"),
    "names and no rows": (".csv", b"width,height\n"),
    "bytes that are no text": (".csv", npy(X)),
}


@pytest.mark.parametrize("what", BROKEN)
def test_a_broken_file_is_named_in_one_sentence(tmp_path, what):
    suffix, content = BROKEN[what]
    path = tmp_path / f"rows{suffix}"
    path.write_bytes(content)
    said = refusal(path).split(str(path))
    assert len(said) > 1, "the file must be named"
    assert len("".join(said)) > 15, "and what is wrong with it"


@pytest.mark.parametrize("suffix", [".npz", ".npy"])
@settings(deadline=None, max_examples=120)
@given(draw=st.data())
def test_whatever_byte_is_damaged_the_file_is_read_or_named(suffix, draw):
    with tempfile.TemporaryDirectory() as folder:
        path = pathlib.Path(folder, f"damaged{suffix}")
        if suffix == ".npz":
            np.savez_compressed(path, x=pixels(12, 4).round())
        else:
            np.save(path, pixels(12, 4))
        content = bytearray(path.read_bytes())
        place = draw.draw(st.integers(0, len(content) - 1), label="place")
        content[place] = draw.draw(st.integers(0, 255), label="byte")
        if draw.draw(st.booleans(), label="cut"):
            del content[place:]
        path.write_bytes(content)
        try:
            data.load(str(path))
        except ValueError as error:
            assert str(path) in str(error) and "\n" not in str(error)


def test_the_keys_that_are_there_and_those_that_are_wanted_are_named(tmp_path):
    np.savez(tmp_path / "a.npz", pictures=pixels(3, 3), other=1)
    message = refusal(tmp_path / "a.npz")
    assert all(repr(word) in message for word in ("other", "pictures", *data.ROWS))


@pytest.mark.parametrize("name", ["cifar", "rows.txt", "Digits", "", "npz", "rows.npz.gz"])
def test_an_unknown_name_or_ending_is_answered_with_the_known_ones(name):
    message = refusal(name)
    assert all(known in message for known in (repr(name), "digits", "mnist", ".npz", ".npy", ".csv"))


@pytest.mark.parametrize("name", ["gone.npz", "gone.npy", "gone.csv"])
def test_a_file_that_is_not_there_is_named(tmp_path, name):
    assert str(tmp_path / name) in refusal(tmp_path / name, kind=FileNotFoundError)


def test_a_folder_is_no_file(tmp_path):
    (tmp_path / "a.npz").mkdir()
    assert str(tmp_path / "a.npz") in refusal(tmp_path / "a.npz", kind=FileNotFoundError)


# -------------------------------------------------------------------------------------------------------------- MNIST


def idx(array):
    """The array as an IDX file: two zeros, the code of bytes, the rank, the shape in big-endian order, the values."""
    return bytes([0, 0, 8, array.ndim]) + np.array(array.shape, ">i4").tobytes() + array.astype(np.uint8).tobytes()


class Places:
    """Three folders in which to look for MNIST, and what a small one with these checksums holds."""

    def __init__(self, root):
        self.option, self.environment, self.cache = (root / name for name in ("option", "environment", "cache"))
        rng = np.random.default_rng(0)
        sizes = dict(zip(data.MNIST_FILES, ((7, 28, 28), (7,), (3, 28, 28), (3,))))
        self.arrays = {n: rng.integers(0, 10 if len(size) == 1 else 256, size, np.uint8) for n, size in sizes.items()}
        self.contents = {name: idx(array) for name, array in self.arrays.items()}

    def fill(self, folder, zipped=False, names=data.MNIST_FILES, contents=None):
        folder.mkdir(parents=True, exist_ok=True)
        for name in names:
            content = (contents or self.contents)[name]
            path = folder / (f"{name}.gz" if zipped else name)
            path.write_bytes(gzip.compress(content) if zipped else content)

    def wrong(self):
        """Four files of the right size that are not MNIST's: to have read one is to be refused."""
        return {name: content[:-1] + bytes([content[-1] ^ 1]) for name, content in self.contents.items()}


@pytest.fixture
def places(tmp_path, monkeypatch):
    places = Places(tmp_path)
    sums = {name: hashlib.md5(content).hexdigest() for name, content in places.contents.items()}
    monkeypatch.setattr(data, "MNIST_FILES", sums)
    monkeypatch.setattr(pooch, "os_cache", lambda project: places.cache)
    monkeypatch.setattr(pooch, "retrieve", no_network)
    monkeypatch.setenv("VAE_NP_DATA", str(places.environment))
    return places


def no_network(url, *arguments, **options):
    raise requests.exceptions.ConnectionError(f"HTTPSConnectionPool(...): Max retries exceeded with url: {url}")


def assert_is_mnist(dataset, places):
    train, train_labels, valid, valid_labels = places.arrays.values()
    np.testing.assert_array_equal(dataset.train, train.reshape(7, 784))
    np.testing.assert_array_equal(dataset.valid, valid.reshape(3, 784))
    np.testing.assert_array_equal(dataset.train_labels, train_labels)
    np.testing.assert_array_equal(dataset.valid_labels, valid_labels)
    assert dataset.image_shape == (28, 28) and dataset.train.dtype == np.uint8


@pytest.mark.parametrize("below", ["", "mnist", "raw", "MNIST/raw"])
@pytest.mark.parametrize("zipped", [False, True], ids=["plain", "gz"])
@pytest.mark.parametrize("place", ["option", "environment", "cache"])
def test_mnist_is_found_in_each_place_plain_or_zipped(places, place, zipped, below):
    """And in a folder mnist in it, or where torchvision puts them."""
    places.fill(getattr(places, place) / below, zipped)
    assert_is_mnist(data.load("mnist", str(places.option)), places)


def test_mnist_is_found_under_the_names_that_some_unpack_it_to(places):
    places.fill(places.option)
    for path in list(places.option.iterdir()):
        path.rename(path.with_name(path.name.replace("-idx", ".idx")))
    assert_is_mnist(data.load("mnist", str(places.option)), places)


@pytest.mark.parametrize("place", ["option", "environment"])
def test_a_tilde_in_the_name_of_a_folder_of_mnist_is_the_users_own(places, place, monkeypatch):
    places.fill(getattr(places, place))
    monkeypatch.setenv("HOME", str(places.option.parent))
    monkeypatch.setenv("VAE_NP_DATA", "~/environment")
    assert_is_mnist(data.load("mnist", "~/option"), places)


def test_mnist_is_found_where_no_folder_is_named(places, monkeypatch):
    places.fill(places.cache)
    monkeypatch.delenv("VAE_NP_DATA")
    assert_is_mnist(data.load("mnist"), places)


@pytest.mark.parametrize("zipped", [False, True], ids=["plain", "gz"])
@pytest.mark.parametrize(("first", "then"), [("option", "environment"), ("environment", "cache"), ("option", "cache")])
def test_the_places_are_searched_in_that_order(places, first, then, zipped):
    # Zipped files in the earlier place against plain ones in the later, and the other way round: the place goes first.
    places.fill(getattr(places, first), zipped)
    places.fill(getattr(places, then), not zipped, contents=places.wrong())
    assert_is_mnist(data.load("mnist", str(places.option)), places)


def test_files_in_several_places_make_one_data_set(places):
    names = list(data.MNIST_FILES)
    places.fill(places.option, names=names[:1])
    places.fill(places.environment, zipped=True, names=names[1:2])
    places.fill(places.cache, names=names[2:])
    assert_is_mnist(data.load("mnist", str(places.option)), places)


@pytest.mark.parametrize("zipped", [False, True], ids=["plain", "gz"])
@pytest.mark.parametrize("name", list(data.MNIST_FILES))
def test_a_file_with_another_checksum_is_refused_and_named(places, name, zipped):
    places.fill(places.option, zipped)
    places.fill(places.option, zipped, [name], places.wrong())
    message = refusal("mnist", str(places.option))
    assert str(places.option / name) in message and "checksum" in message


@pytest.mark.parametrize("zipped", [False, True], ids=["plain", "gz"])
def test_a_file_that_goes_on_after_mnist_is_refused(places, monkeypatch, zipped):
    """Though no more of it is read than a byte beyond the largest, which is this one."""
    name = next(iter(data.MNIST_FILES))
    monkeypatch.setattr(data, "MNIST_BYTES", len(places.contents[name]))
    places.fill(places.option, zipped)
    assert_is_mnist(data.load("mnist", str(places.option)), places)
    places.fill(places.option, zipped, [name], {name: places.contents[name] + b"1"})
    assert "checksum" in refusal("mnist", str(places.option))


def test_the_largest_file_of_mnist_and_its_checksums_are_those_known():
    assert data.MNIST_BYTES == 47_040_016
    assert data.MNIST_FILES == {
        "train-images-idx3-ubyte": "6bbc9ace898e44ae57da46a324031adb",
        "train-labels-idx1-ubyte": "a25bea736e30d166cdddb491f175f624",
        "t10k-images-idx3-ubyte": "2646ac647ad5339dbf082846283269ea",
        "t10k-labels-idx1-ubyte": "27ae3e4e09519cfbb04c329615203637",
    }


@pytest.mark.parametrize("damage", ["cut", "not gzip", "empty", "a value", "no block"])
def test_a_damaged_gz_is_refused_and_named(places, damage):
    places.fill(places.option, zipped=True)
    path = places.option / "train-images-idx3-ubyte.gz"
    content = path.read_bytes()
    another = {
        "cut": content[:-20],
        "not gzip": b"hello" * 9,
        "empty": b"",
        "a value": content[:50] + bytes([content[50] ^ 1]) + content[51:],
        "no block": content[:10] + b"\x07" + content[11:],  # a block of type 3, which there is not: zlib's own error
    }
    path.write_bytes(another[damage])
    assert str(path) in refusal("mnist", str(places.option))


def test_offline_one_sentence_says_what_to_put_where(places):
    message = refusal("mnist", str(places.option), kind=ConnectionError)
    assert all(name in message for name in data.MNIST_FILES)
    assert all(word in message for word in (str(places.cache), "--data-dir", "$VAE_NP_DATA"))


def test_what_is_missing_is_downloaded_to_the_cache_from_the_second_address_if_the_first_fails(places, monkeypatch):
    asked = []

    def retrieve(url, known_hash, fname, path, **options):
        asked.append(url)
        if url.startswith(data.MNIST_URLS[0]):
            no_network(url)
        places.fill(pathlib.Path(path), zipped=True, names=[fname.removesuffix(".gz")])
        return os.path.join(path, fname)

    monkeypatch.setattr(pooch, "retrieve", retrieve)
    missing = list(data.MNIST_FILES)[2]
    places.fill(places.environment, names=[name for name in data.MNIST_FILES if name != missing])
    assert_is_mnist(data.load("mnist"), places)
    assert asked == [f"{address}{missing}.gz" for address in data.MNIST_URLS]
    assert_is_mnist(data.load("mnist"), places)
    assert len(asked) == 2, "what was downloaded is found again"


def test_a_wrong_download_is_refused_and_the_file_to_delete_is_named(places, monkeypatch):
    def retrieve(url, known_hash, fname, path, **options):
        places.fill(pathlib.Path(path), zipped=True, names=[fname.removesuffix(".gz")], contents=places.wrong())
        return os.path.join(path, fname)

    monkeypatch.setattr(pooch, "retrieve", retrieve)
    message = refusal("mnist")
    # The sentence tells the reader to delete a file: it must be one that exists.
    assert any(str(path) in message for path in places.cache.iterdir())


def real_mnist():
    """The real files, wherever they are already; the test is skipped where they are not."""
    folders = [pathlib.Path(folder) for folder in (os.environ.get("VAE_NP_DATA"), pooch.os_cache("vae_np")) if folder]
    places = [place for folder in folders for place in (folder, folder / "mnist")]
    if not all(any((place / file).is_file() for place in places for file in (f, f"{f}.gz")) for f in data.MNIST_FILES):
        pytest.skip("MNIST's files are neither in $VAE_NP_DATA nor in the cache folder, and tests download nothing")
    return data.load("mnist")


def test_the_real_mnist_has_60000_and_10000_images_of_bytes_and_the_known_number_of_each_digit(monkeypatch):
    monkeypatch.setattr(pooch, "retrieve", no_network)
    train, valid, train_labels, valid_labels, shape = real_mnist()
    assert train.shape == (60000, 784) and valid.shape == (10000, 784) and shape == (28, 28)
    assert train.dtype == valid.dtype == np.uint8 and train.max() == valid.max() == 255
    assert np.bincount(train_labels).tolist() == [5923, 6742, 5958, 6131, 5842, 5421, 5918, 6265, 5851, 5949]
    assert np.bincount(valid_labels).tolist() == [980, 1135, 1032, 1010, 982, 892, 958, 1028, 974, 1009]
    # The mean of all grey values of the training images, known as 0.1307 from everyone's normalisation of them.
    assert round(train.mean(dtype=np.float64) / 255, 4) == 0.1307
