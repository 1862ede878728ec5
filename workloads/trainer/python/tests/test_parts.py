"""The parts of the adapter, each alone."""

import os
import random
import struct
import sys
import types
import unittest

import numpy as np
from support import Case, Failure, protocol, tensors

from flops_trainer import code, data, dataset, failure, flops, native, results
from flops_trainer.shape import Options


class Models(Case):
    def test_come_back_as_they_were(self):
        model = {"weight": np.arange(6, dtype=np.float32).reshape(2, 3), "scalar": np.array(2.5),
                 "steps": np.array([1 << 40]), "half": np.ones((2, 0), np.float16), "flag": np.array([True, False]),
                 "turned": np.arange(6.0).reshape(2, 3).T, "big": np.array([1.5, 2], ">f8")}
        read, _ = tensors.read(memoryview(b"".join(bytes(part) for part in tensors.write(model))))
        self.assertEqual(set(read), set(model))
        for name, array in model.items():
            np.testing.assert_array_equal(read[name], array)
            self.assertEqual(read[name].shape, array.shape)

    def test_sealed_memory_is_mapped_and_may_be_changed(self):
        parts = tensors.write({"w": np.zeros(100000)})
        fd = protocol.sealed(parts)
        self.addCleanup(os.close, fd)
        with self.assertRaises(PermissionError):
            os.pwrite(fd, b"x", 0)
        model, _ = tensors.read(tensors.map_fd(fd, os.fstat(fd).st_size))
        self.assertFalse(model["w"].flags.owndata)
        model["w"] += 1
        again, _ = tensors.read(tensors.map_fd(fd, os.fstat(fd).st_size))
        self.assertEqual((model["w"].sum(), again["w"].sum()), (100000, 0))

    def test_broken_ones_are_refused(self):
        good = b"".join(bytes(part) for part in tensors.write({"a": np.ones(4, np.float32), "b": np.ones(2)}))
        chance = random.Random(5)
        for _ in range(3000):
            bad = bytearray(good[:chance.randrange(len(good) + 1)] if chance.random() < 0.3 else good)
            for _ in range(chance.randrange(1, 4)):
                if bad:
                    bad[chance.randrange(len(bad))] = chance.randrange(256)
            try:
                for array in tensors.read(memoryview(bytes(bad)))[0].values():
                    array.sum()
            except tensors.BadModel:
                pass  # the only thing that it may raise

    def test_what_no_model_can_have_is_refused(self):
        for array in (np.array(["text"]), np.array([1j]), np.array([None])):
            with self.assertRaises(tensors.BadModel):
                tensors.write({"x": array})


class Results(Case):
    def test_counts(self):
        for value in (1, 7.0, np.int64(3), np.float32(5)):
            self.assertEqual(results.count(value, "x"), int(value))
        for value in (0, -1, 2.5, None, "3", True, float("nan"), float("inf"), [3], object()):
            self.fails("TrainerBadResult", "x must be", results.count, value, "x")

    def test_numbers(self):
        self.assertEqual(results.number(np.float32(0.5), "x"), 0.5)
        for unknown in (None, float("nan"), float("-inf")):
            self.assertIsNone(results.number(unknown, "x"))
        for value in ("0.5", b"1", [1.0], np.ones(3), True):
            self.fails("TrainerBadResult", "must be a number", results.number, value, "x")

    def test_metrics_are_numbers_of_bounded_names_and_count(self):
        found = results.metrics({"a": 1, "b": "text", "c" * 200: 2, "d": float("nan")}, "x")
        self.assertEqual(found, {"a": 1, "d": None})
        self.assertEqual(len(results.metrics({str(i): i for i in range(1000)}, "x")), results.METRICS_MAX)
        self.fails("TrainerBadResult", "dictionary", results.metrics, [1], "x")

    def test_parameters(self):
        self.assertEqual(list(results.parameters([np.ones(2), [1, 2]], "x")[0]), ["0", "1"])
        for value in (None, [], 5, {}, ["text"], [object()], [[1, [2, 3]]], np.ones(3)):
            self.fails("TrainerBadResult", "x", results.parameters, value, "x")

    def test_numbers_that_numpy_does_not_have_become_floats(self):
        class Tensor:  # as PyTorch's
            dtype = "torch.bfloat16"

            def detach(self):
                return self

            cpu = detach

            def float(self):
                return np.array([1.5, 2], np.float32)

            def __array__(self, *_, **__):
                raise TypeError("Got unsupported ScalarType BFloat16")
        array = results.parameters([Tensor()], "x")[0]["0"]
        self.assertEqual((array.dtype, array.tolist()), (np.float32, [1.5, 2]))

    def test_a_count_of_batches_is_no_float(self):
        base = {"mean": np.zeros(2, np.float32), "batches": np.array(5)}
        fitting = results.like({"mean": np.ones(2), "batches": np.array(6)}, base, "x")
        self.assertEqual((fitting["batches"].shape, fitting["batches"].dtype, int(fitting["batches"])), ((), np.int64, 6))

    def test_order_is_by_number(self):
        model = {str(i): np.array(i) for i in (10, 2, 0, 1)}
        self.assertEqual([int(array) for array in results.ordered(model)], [0, 1, 2, 10])

    def test_like(self):
        base = {"0": np.zeros((2, 3), np.float32), "n": np.zeros(1, np.int64)}
        fitting = results.like({"0": np.ones((2, 3)), "n": np.ones(1, np.int32)}, base, "x")
        self.assertEqual({name: array.dtype for name, array in fitting.items()}, {"0": np.float32, "n": np.int64})
        for wrong in ({"0": base["0"]}, dict(base, more=base["n"]), dict(base, **{"0": np.ones((3, 2))}),
                      dict(base, n=np.array([1.5]))):
            self.fails("TrainerBadResult", "the model", results.like, wrong, base, "x")


class Failures(Case):
    def test_say_where_in_the_users_code(self):
        folder = self.folder(model_manager_py="""
            def inner(x):
                return x["pixels"]
            def fit():
                return inner({})
            """)
        code.prepare_path(folder)
        self.addCleanup(sys.path.remove, folder)
        fit = code._import(folder, "model_manager:fit")
        self.addCleanup(sys.modules.pop, "model_manager")
        try:
            fit()
        except KeyError as error:
            found = failure.failure_of(error, "training")
        self.assertEqual(found.message, "training: KeyError: 'pixels' (model_manager.py, line 3, in inner)")
        self.assertIn('return x["pixels"]', found.traceback)

    def test_errors_that_cannot_speak(self):
        class Mute(Exception):
            def __str__(self):
                raise ValueError("no words")
        self.assertIn("Mute", failure.failure_of(Mute(), "training").message)

    def test_reasons(self):
        class OutOfMemoryError(RuntimeError):
            pass
        for error, reason in ((MemoryError(), "OutOfMemory"), (OutOfMemoryError(), "OutOfMemory"),
                              (SystemExit(3), "CodeExited"), (ValueError(), "CodeFailed"), (Failure("Own", ""), "Own")):
            self.assertEqual(failure.failure_of(error, "x").reason, reason)

    def test_are_cut_to_what_the_protocol_takes(self):
        head = Failure("X", "é" * 9000, "ü" * 90000 + "end").head()
        self.assertLessEqual(len(head["message"].encode()), 4096)
        self.assertLessEqual(len(head["traceback"].encode()), 65536)
        self.assertTrue(head["traceback"].endswith("end"))


class Loading(Case):
    def load(self, folder, entry=None):
        code.prepare_path(folder)
        self.addCleanup(sys.path.remove, folder)
        try:
            return code.load(folder, entry, data.Data([], []))
        finally:
            for name in ("trainer", "model_manager", "client_app", "app"):
                sys.modules.pop(name, None)

    def test_finds_what_is_there(self):
        methods = "".join(f"    def {name}(self, *a): pass\n" for name in native.METHODS)
        manager = "".join(f"    def {name}(self, *a): pass\n" for name in flops.METHODS)
        client = "class C:\n    def get_parameters(self, c): pass\n    def fit(self, p, c): pass\n" \
                 "    def evaluate(self, p, c): pass\n"
        for files, entry, kind in (({"trainer_py": f"class Trainer:\n{methods}"}, None, "Native"),
                                   ({"model_manager_py": f"class ModelManager:\n{manager}"}, None, "Flops"),
                                   ({"app_py": f"{client}app = C()\n"}, "app:app", "NumPyClient"),
                                   ({"app_py": client}, "app:C", "NumPyClient"),
                                   ({"client_app_py": f"{client}app = C\n"}, None, "NumPyClient"),
                                   ({"app_py": f"{client}app = C\n", "pyproject_toml":
                                     '[tool.flwr.app.components]\nclientapp = "app:app"\n'}, None, "NumPyClient")):
            with self.subTest(entry=entry, kind=kind):
                self.assertEqual(type(self.load(self.folder(**files), entry)).__name__, kind)

    def test_says_what_is_missing(self):
        for files, entry, words in (({}, None, "has no training code"), ({"trainer_py": ""}, None, "has no Trainer"),
                                    ({"trainer_py": "class Trainer:\n    def fit(self): pass"}, None,
                                     "lacks get_parameters, set_parameters, evaluate"),
                                    ({"app_py": "app = 5"}, "app:app", "int 5")):
            with self.subTest(words=words):
                self.fails("CodeNotLoaded", words, self.load, self.folder(**files), entry)
        self.fails("CodeNotLoaded", "there is no folder", code.load, "/nowhere", None, data.Data([], []))

    def test_what_failed_is_loaded_anew(self):
        folder = self.folder(trainer_py="import helper\nraise ValueError('not yet')", helper_py="x = 1")
        with self.assertRaises(ValueError):
            self.load(folder)
        self.assertNotIn("helper", sys.modules)


class Managers(Case):
    def test_models_that_are_made_from_the_data(self):
        class Manager:
            has_data = False

            def set_model_data(self):
                self.has_data = True

            def set_model_parameters(self, parameters):
                raise AssertionError("a fresh one is asked, not told")

            fit_model = evaluate_model = set_model_parameters

        class Empty(Manager):
            def get_model_parameters(self):
                return [np.ones(2)] if self.has_data else []

        class Raises(Manager):
            def get_model_parameters(self):
                if not self.has_data:
                    raise AttributeError("model")
                return [np.ones(2)]

        class Never(Manager):
            def get_model_parameters(self):
                return []

        for kind in (Empty, Raises):
            model = flops.Flops(kind, data.Data([], [])).fresh()
            self.assertEqual({name: array.tolist() for name, array in model.items()}, {"0": [1, 1]})
        self.fails("TrainerBadResult", "gave no arrays at all: a model that takes its form",
                   flops.Flops(Never, data.Data([], [])).fresh)


class DataSets(Case):
    def stored(self, rows=None):
        folder = self.folder()
        features = np.arange(40, dtype=np.float32).reshape(10, 2, 2)
        parts = tensors.write({"features": features, "labels": np.arange(10, dtype=np.int32) % 3})
        with open(os.path.join(folder, "data.safetensors"), "wb") as file:
            file.write(b"".join(bytes(part) for part in parts))
        with open(os.path.join(folder, "rows.safetensors"), "wb") as file:
            file.write(b"".join(bytes(part) for part in tensors.write(
                {"rows": np.array([9, 1, 4, 7], np.uint32), "starts": np.array([0, 1, 4], np.uint64)})))
        entry = {"name": "toy", "examples": 10, "file": os.path.join(folder, "data.safetensors")}
        if rows is not None:
            entry["rows"] = {"file": os.path.join(folder, "rows.safetensors"), "part": rows}
        return entry

    def test_whole_and_parts(self):
        self.assertEqual(data.Data([self.stored()], []).whole().features.shape, (10, 2, 2))
        part = data.Data([self.stored(1)], [])
        self.assertEqual(part.whole().labels.tolist(), [1, 1, 1])
        self.assertEqual(part.whole().features[0, 0, 0], 4)
        self.assertEqual(part.partition(), (1, 2))
        both = data.Data([self.stored(0), self.stored(1)], []).whole()
        self.assertEqual(both.labels.tolist(), [0, 1, 1, 1])

    def test_what_is_wrong_is_said(self):
        folder = self.folder(empty_npz="", other_safetensors="nothing")
        for sets, paths, reason, words in (
                ([], [], "DataMissing", "was given no data"),
                ([{"name": "lost"}], [], "DataMissing", "no data set lost"),
                ([{"name": "x", "file": "/nowhere"}], [], "DataUnusable", "x"),
                ([], [os.path.join(folder, "other.safetensors")], "DataUnusable", "safetensors")):
            self.fails(reason, words, data.Data(sets, paths).whole)

    def test_the_stand_in_of_hugging_faces_class(self):
        whole = dataset.make(data.Data([self.stored()], []))
        self.assertIsInstance(whole, dataset.Dataset)
        self.assertEqual((len(whole), whole.column_names), (10, ["image", "label"]))
        self.assertEqual(whole[3]["label"], 0)
        self.assertIsInstance(whole["label"], list)
        whole.set_format("numpy")
        self.assertEqual(whole["image"].reshape((len(whole), -1)).shape, (10, 4))
        self.assertEqual(whole["img"].shape, whole[:]["image"].shape)
        parts = whole.train_test_split(test_size=0.2, seed=42)
        self.assertEqual((len(parts["train"]), len(parts["test"])), (8, 2))
        again = whole.train_test_split(test_size=0.2, seed=42)
        np.testing.assert_array_equal(parts["test"]["image"], again["test"]["image"])
        together = np.sort(np.concatenate([parts[name]["image"][:, 0, 0] for name in parts]))
        np.testing.assert_array_equal(together, np.arange(10) * 4)
        with self.assertRaises(KeyError):
            whole["colour"]
        with self.assertRaises(ValueError):
            whole.train_test_split(test_size=10)

    def test_columns_of_the_real_class_are_arrays_where_arrays_were_asked_for(self):
        class Column:
            def __init__(self, values):
                self.values = values

            def __getitem__(self, key):
                return self.values[key]

        class Dataset:
            def __init__(self, kind):
                self.format = {"type": kind}

            def __getitem__(self, key):
                values = np.arange(6).reshape(3, 2)
                return Column(values if self.format["type"] else values.tolist()) if isinstance(key, str) else key

        library = types.SimpleNamespace(arrow_dataset=types.SimpleNamespace(Column=Column, Dataset=Dataset))
        for _ in range(2):  # taught once, it is not taught again
            dataset._teach_columns(library)
            self.assertIsInstance(Dataset("numpy")["image"], np.ndarray)
            self.assertIsInstance(Dataset(None)["image"], Column)
            self.assertIsInstance(Dataset("custom")["image"], Column)
        self.assertEqual(Dataset(None)["image"].count([2, 3]), 1)
        self.assertEqual(Dataset("numpy")[2], 2)
        with self.assertRaises(AttributeError):
            Dataset(None)["image"].__array__
        dataset._teach_columns(types.SimpleNamespace(arrow_dataset=types.SimpleNamespace()))  # before version 4

    def test_columns_are_called_as_the_code_calls_them(self):
        folder, before = self.folder(data_manager_py="x, y = dataset['img'], dataset[\"target\"]"), os.getcwd()
        self.addCleanup(os.chdir, before)
        os.chdir(folder)
        self.assertEqual(dataset.make(data.Data([self.stored()], [])).column_names, ["img", "target"])
        os.environ["FLOPS_COLUMNS"] = "picture,kind"
        self.addCleanup(os.environ.pop, "FLOPS_COLUMNS")
        self.assertEqual(dataset.make(data.Data([self.stored()], [])).column_names, ["picture", "kind"])

    def test_transforms_maps_and_selections(self):
        whole = dataset.make(data.Data([self.stored()], [])).with_format("numpy")

        def double(batch):
            batch["img"] = [image * 2 for image in batch["img"]]
            return batch
        changed = whole.with_transform(double)
        self.assertEqual(changed[1]["img"][0, 0], 8)
        self.assertEqual([row["img"][0, 0] for row in changed.__getitems__([0, 2])], [0, 16])
        self.assertEqual(len(whole.filter(lambda row: row["label"] == 0)), 4)
        self.assertEqual(whole.select([5, 1])["label"].tolist(), [2, 1])
        self.assertEqual(whole.map(lambda row: {"sum": row["image"].sum()})["sum"][0], 6)
        self.assertEqual(whole.rename_column("image", "x").remove_columns("label").column_names, ["x"])
        self.assertEqual([len(batch["label"]) for batch in whole.iter(4)], [4, 4, 2])


class Frames(Case):
    def pair(self):
        ours, theirs = protocol._socket.socketpair()
        channel = protocol.Channel(ours.detach())
        self.addCleanup(theirs.close)
        self.addCleanup(channel._socket.close)
        return channel, theirs

    def frame(self, kind=3, flags=0, head=b"{}", body=b"", size=None, magic=b"FLT1"):
        size = len(body) if size is None else size
        return struct.pack("<4sHHIIQ", magic, kind, flags, 1, len(head), size) + head + body

    def test_what_breaks_the_protocol(self):
        for bad in (self.frame(magic=b"HTTP"), self.frame(flags=4), self.frame(kind=99), self.frame(flags=1, size=10),
                    self.frame(head=b"[]"), self.frame(size=1 << 60), b"Epoch 1/5: loss 0.3, a nice day"):
            channel, other = self.pair()
            other.send(bad)
            with self.assertRaises(protocol.ProtocolError):
                channel.receive()

    def test_skips_what_may_be_skipped(self):
        channel, other = self.pair()
        other.send(self.frame(kind=99, flags=2, body=b"abc") + self.frame(kind=4, body=b"model"))
        frame = channel.receive()
        self.assertEqual((frame.type, bytes(frame.body)), (4, b"model"))

    def test_large_bodies_go_as_sealed_memory(self):
        channel, other = self.pair()
        channel.descriptors = True
        channel.send(protocol.RESULT, 5, {}, [b"a" * 100000, b"b"])
        peer = protocol.Channel(other.detach())
        self.addCleanup(peer._socket.close)
        header, fd = peer._read_header()
        self.addCleanup(os.close, fd)
        self.assertEqual(protocol._HEADER.unpack(header)[2:4], (protocol.DESCRIPTOR, 5))
        self.assertEqual(os.pread(fd, 5, 99997), b"aaab")

    def test_more_than_the_other_side_takes(self):
        channel, _ = self.pair()
        channel.body_max = 10
        with self.assertRaises(ValueError):
            channel.send(protocol.RESULT, 1, {}, [b"x" * 11])

    def test_gone(self):
        channel, other = self.pair()
        other.send(self.frame()[:10])
        other.close()
        with self.assertRaises(protocol.Gone):
            channel.receive()


class OptionsOfAFit(Case):
    def test_defaults(self):
        options = Options()
        self.assertEqual((options.epochs, options.batch_size, options.seed, options.config), (1, 0, 0, {}))
        options.progress(1, 2)
        self.assertFalse(options.cancelled())


if __name__ == "__main__":
    unittest.main()
