# SPDX-License-Identifier: Apache-2.0
"""What is measured: one class for each part of the table, with its rows and one round of it."""

import os
import shutil
import statistics
import subprocess
import time

from bench_mounts import (FILL_TIMEOUT_S, BenchError, Daemon, NotMeasured, Warmfs, build_passthrough_hp,
                          die_with_parent, loop_filesystem, require_fuse_io_uring, run,
                          spread_subdirectories)
from bench_table import Row

MIB = 1 << 20
UNIT_BYTES = 4096
# As the warmer writes, so that the page cache holds both files in pieces of one size.
FOLIO_BYTES = 65536
# What the kernel answers by itself takes a percent more on one mount than on another.
EQUAL = 1.05


class Scale:
    """How much of everything."""

    def __init__(self, quick):
        self.segment_bytes = (16 if quick else 256) * MIB
        self.ahead = 2 if quick else 8
        self.single_creates = 2 if quick else 5
        self.append_bytes = (4 if quick else 64) * MIB
        self.appends = 1000 if quick else 50000
        self.syncs = 200 if quick else 3000
        self.write_passes = 2 if quick else 6
        self.loop_bytes = (160 if quick else 2048) * MIB
        self.plain_files = 100 if quick else 5000
        self.listings = 5 if quick else 50
        self.large_bytes = (16 if quick else 1024) * MIB
        self.passes = 20 if quick else 400
        # Long enough for a virtual machine to give freed memory back to its host.
        self.settle_s = 0 if quick else 10
        self.blocked_creates = 100 if quick else 1000
        self.blocked_stats = 500 if quick else 5000
        self.blocked_segment_bytes = 64 * MIB
        self.yield_segment_bytes = (4 if quick else 64) * MIB
        self.yield_ahead = 4 if quick else 64
        self.yield_creates = 2 if quick else 8


class Bench:
    """What all sections share: the tools, the places, and the values measured."""

    def __init__(self, options, scale, base, stack):
        self.options = options
        self.scale = scale
        self.base = base
        self.stack = stack
        self.series = {}
        self.warmfs_binary = os.path.join(options.build, "fs", "warmfs")
        self.ops_binary = self.tool("tests", "bench", "bench-ops")

    def tool(self, *path):
        binary = os.path.join(self.options.build, *path)
        if not os.path.exists(binary):
            raise BenchError(f"{binary} is not there: build first, or name the build with --build")
        return binary

    def directory(self, *path):
        path = os.path.join(self.base, *path)
        os.makedirs(path, exist_ok=True)
        return path

    def record(self, name, value):
        self.series.setdefault(name, []).append(value)

    def ops(self, operation, *targets, **options):
        """Runs one timed loop; a dict of numbers for each target."""
        words = [f"{key}={value}" for key, value in options.items()]
        lines = run(self.ops_binary, operation, *words, *targets).splitlines()
        return [{key: int(value) for key, value in (word.split("=") for word in line.split())}
                for line in lines]


class Site:
    """One filesystem with a native directory, a warmfs mount, and a fresh directory a round."""

    def __init__(self, bench, base, segment_bytes, ahead, kind="mapped", more=""):
        self.bench = bench
        self.base = base
        self.segment_bytes = segment_bytes
        self.kind = kind
        self.native_top = bench.directory(base, "native")
        self.source = bench.directory(base, "source")
        self.mountpoint = bench.directory(base, "mnt")
        spread_subdirectories(os.path.join(bench.base, base))
        spread_subdirectories(self.native_top)
        spread_subdirectories(self.source)
        self.warmfs = bench.stack.enter_context(
            Warmfs(bench.tool("fs", "warmfs"), self.source, self.mountpoint,
                   os.path.join(bench.base, f"warmfs-{base.replace('/', '-')}.log"),
                   segment_bytes, ahead, kind, more))

    def round_directories(self, name):
        return [self.round_directory(top, name) for top in (self.native_top, self.mountpoint)]

    @staticmethod
    def round_directory(top, name):
        path = os.path.join(top, name)
        os.mkdir(path)
        return path

    def take(self, prefix, count=1):
        """Creates segments from a full pool: the timings, once the pool is full again."""
        self.warmfs.wait_full()
        before = self.warmfs.counters()
        [timings] = self.bench.ops("create", prefix, count=count, suffix=".seg")
        self.warmfs.wait_full()
        after = self.warmfs.counters()
        if after.get("hits", 0) - before.get("hits", 0) != count:
            raise BenchError(f"{count} creates were not {count} hits: before {before}, "
                             f"after {after}")
        return timings

    def segment(self, prefix):
        self.take(prefix)
        path = f"{prefix}000000.seg"
        born_bytes = self.segment_bytes if self.kind == "mapped" else 0
        if os.stat(path).st_size != born_bytes:
            raise BenchError(f"{path} is no segment: {os.stat(path).st_size} bytes")
        return path


def remove_large_files(*directories):
    """After a round. The small files stay to the end: unlinking many slows later creates."""
    for directory in directories:
        for entry in os.scandir(directory):
            if entry.is_file() and entry.stat().st_size >= MIB:
                os.unlink(entry.path)
        run("sync", "-f", os.path.dirname(directory))


class CreateSection:
    """The create of a prepared segment, beside the cheapest create through FUSE and beside
    preparing the file oneself."""

    name = "create"

    def rows(self, scale):
        size = f"{scale.segment_bytes // MIB} MiB"
        return [
            Row(self.name, f"create a {size} segment, pool full", "empty file on passthrough_hp",
                "create.hp", "create.warmfs", "ns", "time", at_most=3, needs="hp"),
            Row(self.name, f"create a {size} segment, pool full", "fallocate, zeros, fsync",
                "create.fill", "create.warmfs", "ns", "faster", at_least=100),
            Row(self.name, f"create {scale.ahead} such segments in a row, each",
                "empty files on passthrough_hp", "create.hp_burst", "create.warmfs_burst", "ns",
                "time", needs="hp"),
            Row(self.name, f"create a {size} segment, pool full", "empty file, native",
                "create.native", "create.warmfs", "ns", "time"),
        ]

    def setup(self, bench, places):
        self.bench, self.site, self.hp_top = bench, places.disk(), places.passthrough_hp()

    def round(self, number):
        bench, scale = self.bench, self.bench.scale
        native, mounted = self.site.round_directories(f"create-{number}")
        hp = self.hp_top and os.path.join(self.hp_top, f"create-{number}")
        if hp:
            os.mkdir(hp)
        singles = {"hp": [], "native": [], "warmfs": []}
        for i in range(scale.single_creates):
            self.site.warmfs.wait_full()
            if hp:
                singles["hp"] += bench.ops("create", f"{hp}/s{i}-")
            singles["native"] += bench.ops("create", f"{native}/s{i}-")
            singles["warmfs"] += [self.site.take(f"{mounted}/s{i}-")]
        for name, timings in singles.items():
            if timings:
                bench.record(f"create.{name}",
                             statistics.median(timing["p50_ns"] for timing in timings))
        self.burst(hp, mounted)
        [fill] = bench.ops("fill", f"{native}/fill", size=scale.segment_bytes, chunk=MIB,
                           fallocate=1)
        bench.record("create.fill", fill["p50_ns"])
        remove_large_files(native, mounted)

    def burst(self, hp, mounted):
        count = self.bench.scale.ahead
        if hp:
            [timings] = self.bench.ops("create", f"{hp}/b-", count=count)
            self.bench.record("create.hp_burst", timings["p50_ns"])
        timings = self.site.take(f"{mounted}/b-", count)
        self.bench.record("create.warmfs_burst", timings["p50_ns"])


class StoreSection:
    """The first pass of stores through a shared mapping.

    A virtual machine may give free memory back to its host, and then getting it again is most of
    what a fresh file costs. Memory that an earlier section freed a moment ago has not gone back
    yet, so each round first lets it settle: all rounds measure the same thing.
    """

    name = "store"

    def rows(self, _scale):
        what = "first 4 KiB stores, mapped: "
        rows = []
        for other, label, faster, rate in (
                ("ftruncate", "fresh file, ftruncate", 20, 5),
                ("fallocate", "fresh file, fallocate", None, None)):
            rows += [
                Row(self.name, what + "p99.99", label, f"store.{other}.p9999",
                    "store.warmfs.p9999", "ns", "faster", at_least=faster),
                Row(self.name, what + "throughput", label, f"store.{other}.rate",
                    "store.warmfs.rate", "B/s", "rate", at_least=rate)]
        return rows

    def setup(self, bench, places):
        self.bench, self.site = bench, places.disk()

    def round(self, number):
        native, mounted = self.site.round_directories(f"store-{number}")
        segment = self.site.segment(f"{mounted}/")
        time.sleep(self.bench.scale.settle_s)
        competitors = {"warmfs": (segment, {}),
                       "ftruncate": (f"{native}/ftruncate", {"grow": "ftruncate"}),
                       "fallocate": (f"{native}/fallocate", {"grow": "fallocate"})}
        # Who goes first changes from round to round.
        names = sorted(competitors)
        for name in names[number % 3:] + names[:number % 3]:
            self.measure(name, *competitors[name])
        remove_large_files(native, mounted)

    def measure(self, name, path, options):
        size = self.bench.scale.segment_bytes
        [timings] = self.bench.ops("store", path, count=size // UNIT_BYTES, size=size, **options)
        self.bench.record(f"store.{name}.p9999", timings["p9999_ns"])
        self.bench.record(f"store.{name}.rate", size * 1e9 / timings["total_ns"])


class SyncSection:
    """4 KiB written and synced: into a segment, and appended to a fresh native file."""

    def __init__(self, name, place, where, at_least):
        self.name, self.place, self.where, self.at_least = name, place, where, at_least

    def rows(self, _scale):
        what = f"4 KiB pwrite + fdatasync, {self.where}"
        return [
            Row(self.name, what, "append to a fresh file", f"{self.name}.append",
                f"{self.name}.warmfs", "/s", "rate", at_least=self.at_least),
            Row(self.name, what, "zero-filled native file", f"{self.name}.filled",
                f"{self.name}.warmfs", "/s", "rate"),
        ]

    def setup(self, bench, places):
        self.bench, self.site = bench, getattr(places, self.place)()

    def round(self, number):
        bench, size = self.bench, self.bench.scale.segment_bytes
        native, mounted = self.site.round_directories(f"{self.name}-{number}")
        bench.ops("fill", f"{native}/filled", size=size, chunk=FOLIO_BYTES, fallocate=1)
        paths = {"append": f"{native}/append", "warmfs": self.site.segment(f"{mounted}/"),
                 "filled": f"{native}/filled"}
        results = bench.ops("sync", *paths.values(), count=bench.scale.syncs, batch=250, size=size)
        for name, timings in zip(paths, results):
            bench.record(f"{self.name}.{name}", timings["count"] * 1e9 / timings["total_ns"])
            bench.record(f"{self.name}.{name}.p50", timings["p50_ns"])
        remove_large_files(native, mounted)


class AppendSection:
    """Records appended to a file that is born empty: into a segment, and to a fresh native file.

    A record that ends in a zero byte is a case of its own: after a power cut such an end cannot be
    found by looking at the file, so there is more to make durable.
    """

    name_of_unit = {256: "256 B", 4096: "4 KiB", 65536: "64 KiB"}
    # Of those, what is also written to a transient buffer.
    buffered_units = (256, 4096)

    def __init__(self, name, place, where, targets, unsynced):
        self.name, self.place, self.where = name, place, where
        # The least ratios: of appends, those through io_uring, and those that end in a zero byte.
        self.plain_least, self.uring_least, self.zero_least = targets
        self.unsynced = unsynced

    def rows(self, _scale):
        what = f"4 KiB append + fdatasync, {self.where}"
        native = "append to a fresh file"
        sync, zero = f"{self.name}.sync", f"{self.name}.zero"
        rows = [
            Row(self.name, what, native, f"{sync}.native", f"{sync}.warmfs", "/s", "rate",
                at_least=self.plain_least),
            Row(self.name, f"{what}: p99", native, f"{sync}.native.p99", f"{sync}.warmfs.p99", "ns",
                "time", at_most=1),
            Row(self.name, f"{what}, io_uring", native, f"{sync}.native", f"{sync}.uring", "/s",
                "rate", at_least=self.uring_least, needs="uring"),
            Row(self.name, f"{what}, last byte zero", native, f"{zero}.native", f"{zero}.warmfs",
                "/s", "rate", at_least=self.zero_least),
        ]
        for unit, unit_name in self.name_of_unit.items() if self.unsynced else ():
            rows += [Row(self.name, f"{unit_name} append, not synced", other_name,
                         f"{self.name}.{unit}.{other}", f"{self.name}.{unit}.warmfs", "/s", "rate")
                     for other, other_name in (("native", native), ("stream", "stream segment"))]
        for unit in self.buffered_units if self.unsynced else ():
            series = f"{self.name}.{unit}"
            what = f"{self.name_of_unit[unit]} append, not synced, transient=on"
            rows += [Row(self.name, what, "the same without", f"{series}.warmfs", f"{series}.transient", "/s",
                         "rate"),
                     Row(self.name, f"{what}: p99", "the same without", f"{series}.warmfs.p99",
                         f"{series}.transient.p99", "ns", "time")]
        return rows

    def setup(self, bench, places):
        self.bench, self.site = bench, places.growing(self.place)
        self.others = {"uring": places.growing_uring(self.place)}
        if self.unsynced:
            self.others["stream"] = places.stream(self.place)
            self.others["transient"] = places.transient(self.place)

    def round(self, number):
        scale = self.bench.scale
        native, mounted = self.site.round_directories(f"{self.name}-{number}")
        tops = {"warmfs": (self.site, mounted)}
        for name, site in self.others.items():
            if site:
                top = site.round_directory(site.mountpoint, f"{self.name}-{number}")
                tops[name] = (site, top)
        measured = {"sync": ("append_sync", ("warmfs", "uring"), scale.syncs, {"batch": 250}),
                    "zero": ("append_sync", ("warmfs",), scale.syncs,
                             {"batch": 250, "last_byte": 0})}
        for unit in self.name_of_unit if self.unsynced else ():
            count = min(scale.append_bytes // unit, scale.appends)
            names = ("warmfs", "stream", *(["transient"] if unit in self.buffered_units else []))
            measured[unit] = ("append", names, count, {"batch": 100, "unit": unit})
        for what, (operation, names, count, options) in measured.items():
            paths = {"native": f"{native}/{what}"}
            for name in names:
                if name in tops:
                    site, top = tops[name]
                    paths[name] = site.segment(f"{top}/{what}-")
            self.measure(what, operation, paths, count=count, **options)
        remove_large_files(native, *(top for _, top in tops.values()))

    def measure(self, what, operation, paths, **options):
        results = self.bench.ops(operation, *paths.values(), **options)
        for name, timings in zip(paths, results):
            series = f"{self.name}.{what}.{name}"
            self.bench.record(series, timings["count"] * 1e9 / timings["total_ns"])
            self.bench.record(f"{series}.p50", timings["p50_ns"])
            self.bench.record(f"{series}.p99", timings["p99_ns"])


class WriteSection:
    """Buffered writes over blocks that are there already. What libfuse's own example reaches is what
    the kernel's passthrough costs."""

    name = "write"

    def rows(self, _scale):
        what = "4 KiB buffered pwrite, file pre-written"
        return [Row(self.name, what, "native", "write.native", "write.warmfs", "B/s", "rate",
                    at_least=0.85),
                Row(self.name, what, "passthrough_hp", "write.hp", "write.warmfs", "B/s", "rate")]

    def setup(self, bench, places):
        self.bench, self.site, self.hp = bench, places.disk(), places.passthrough_hp()

    def filled(self, directory):
        path = os.path.join(directory, "filled")
        self.bench.ops("fill", path, size=self.bench.scale.segment_bytes, chunk=FOLIO_BYTES,
                       fallocate=1)
        return path

    def round(self, number):
        bench, size = self.bench, self.bench.scale.segment_bytes
        native, mounted = self.site.round_directories(f"write-{number}")
        paths = {"native": self.filled(native), "warmfs": self.site.segment(f"{mounted}/")}
        if self.hp:
            # Filled beneath the mount: passthrough_hp knows no fallocate.
            hp_source = self.bench.directory("disk", "hp-source", f"write-{number}")
            self.filled(hp_source)
            paths["hp"] = os.path.join(self.hp, f"write-{number}", "filled")
        count = size // UNIT_BYTES * bench.scale.write_passes
        # In turns of a few milliseconds, so that what else the machine does hits all of them.
        results = bench.ops("write", *paths.values(), count=count, size=size, batch=1024)
        for name, timings in zip(paths, results):
            bench.record(f"write.{name}", count * UNIT_BYTES * 1e9 / timings["total_ns"])
        remove_large_files(native, mounted, *([hp_source] if self.hp else []))


class PlainSection:
    """Files of no class, and what is asked about them. The others are as they come: passthrough_hp lets the
    kernel keep names and attributes for a day, bindfs for a second, as warmfs does. So each is to be
    reached by a mount that promises the same; `patient` is one of warmfs with attr_timeout=86400."""

    name = "plain"
    # Other, its label, ours, and a target.
    others = (("hp", "passthrough_hp, a day", "patient", EQUAL), ("bindfs", "bindfs, a second", "warmfs", EQUAL),
              ("hp", "passthrough_hp", "warmfs", None), ("native", "native", "warmfs", None))
    # Operation -> its label and options; the first makes the files of the others.
    operations = {
        "create": ("create a plain file", {}),
        "stat_first": ("first stat of a file", {}),
        "stat_again": ("stat again", {}),
        "stat_forced": ("stat, AT_STATX_FORCE_SYNC", {"force": 1}),
        "readdir_changed": ("list a changed directory of {files}", {"changed": 1}),
        "readdir_again": ("list a directory of {files} again", {}),
        "put": ("open a file, write 4 KiB, close", {}),
        "get": ("open a file, read 4 KiB, close", {}),
        "churn": ("create a file, close, unlink", {}),
    }

    def rows(self, scale):
        return [Row(self.name, label.format(files=scale.plain_files), other_label,
                    f"plain.{name}.{other}", f"plain.{name}.{ours}", "ns", "time", at_most=target, needs=other)
                for name, (label, _) in self.operations.items()
                for other, other_label, ours, target in self.others]

    def setup(self, bench, places):
        self.bench, self.site, self.patient = bench, places.disk(), places.patient()
        self.tops = {"hp": places.passthrough_hp(), "bindfs": places.bindfs(), "patient": self.patient.mountpoint}

    def round(self, number):
        native, mounted = self.site.round_directories(f"plain-{number}")
        directories = {"native": native, "warmfs": mounted}
        for name, top in self.tops.items():
            if top:
                directories[name] = self.site.round_directory(top, f"plain-{number}")
        for site in (self.site, self.patient):
            site.warmfs.wait_full()
        for name, (_, options) in self.operations.items():
            # The names of files that come and go are not those of the files that stay.
            paths = [f"{directory}/{'c' if name == 'churn' else 'f'}" for directory in directories.values()]
            results = self.bench.ops(name.split("_")[0], *paths, count=self.count(name), batch=50, **options)
            for place, timings in zip(directories, results):
                self.bench.record(f"plain.{name}.{place}", timings["p50_ns"])

    def count(self, name):
        scale = self.bench.scale
        return scale.listings if name.startswith("readdir") else scale.plain_files


class UnlinkSection:
    """The removal of a large file, from a full pool: nothing is made of it, it only goes."""

    name = "unlink"

    def rows(self, scale):
        return [Row(self.name, f"unlink a {scale.large_bytes // MIB} MiB segment", "zero-filled native file",
                    "unlink.native", "unlink.warmfs", "ns", "faster")]

    def setup(self, bench, places):
        self.bench, self.site = bench, places.large()

    def round(self, number):
        native, mounted = self.site.round_directories(f"unlink-{number}")
        self.bench.ops("fill", f"{native}/000000.seg", size=self.site.segment_bytes, chunk=FOLIO_BYTES, fallocate=1)
        self.site.segment(f"{mounted}/")
        run("sync", "-f", mounted)
        for name, directory in (("native", native), ("warmfs", mounted)):
            [timings] = self.bench.ops("unlink", f"{directory}/", suffix=".seg")
            self.bench.record(f"unlink.{name}", timings["p50_ns"])
            # The blocks may be given back later: not while the next one is timed.
            run("sync", "-f", self.site.native_top)


class BlockedSection:
    """What the rest of the mount feels of many creates that wait for a slow pool."""

    name = "blocked"

    def rows(self, scale):
        what = f"beside {scale.blocked_creates} blocked creates"
        return [
            Row(self.name, f"stat {what}", "without them", "blocked.stat.without",
                "blocked.stat.with", "ns", "time", at_most=2),
            Row(self.name, f"list a directory {what}", "without them", "blocked.readdir.without",
                "blocked.readdir.with", "ns", "time", at_most=2),
            Row(self.name, f"create a plain file {what}", "without them", "blocked.create.without",
                "blocked.create.with", "ns", "time"),
        ]

    def setup(self, bench, _places):
        self.bench = bench
        self.binary = bench.tool("tests", "bench", "blocked-creates")
        faults = os.path.join(bench.base, "faults")
        with open(faults, "w", encoding="utf-8") as file:
            file.write("pwrite delay_ms=200 path=.warmfs/pool\n")
        self.mountpoint = bench.directory("blocked", "mnt")
        environment = {"LD_PRELOAD": bench.tool("tests", "lib", "faulty-sys.so"),
                       "WARMFS_FAULTS": faults}
        # Nothing ahead: the one segment that is being written is one that a create waits for.
        bench.stack.enter_context(
            Warmfs(bench.tool("fs", "warmfs"), bench.directory("blocked", "source"),
                   self.mountpoint, os.path.join(bench.base, "warmfs-blocked.log"),
                   bench.scale.blocked_segment_bytes, 0, more=",timeout=60s",
                   environment=environment))

    def round(self, number):
        scale = self.bench.scale
        before, beside, blocked = (os.path.join(self.mountpoint, f"{name}-{number}")
                                   for name in ("before", "beside", "blocked"))
        for directory in (before, beside, blocked):
            os.mkdir(directory)
        self.measure(before, "without")
        with subprocess.Popen([self.binary, blocked, str(scale.blocked_creates), "x.seg"],
                              stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
                              preexec_fn=die_with_parent) as creates:
            try:
                if creates.stdout.readline() != "blocked\n":
                    raise BenchError("the creates did not block")
                self.measure(beside, "with")
                creates.stdin.write("?")
                creates.stdin.flush()
                if creates.stdout.readline() != "returned=0\n":
                    raise BenchError("creates returned while the rest was measured")
            finally:
                creates.terminate()

    def measure(self, directory, when):
        """In a fresh directory, with 100 files that are made first."""
        scale = self.bench.scale
        for name, count, options in (("create", 100, {}),
                                     ("stat", scale.blocked_stats, {"force": 1, "files": 100}),
                                     ("readdir", scale.passes, {})):
            [timings] = self.bench.ops(name, f"{directory}/f", count=count, **options)
            self.bench.record(f"blocked.{name}.{when}", timings["p50_ns"])
            self.bench.record(f"blocked.{name}.{when}.p99", timings["p99_ns"])


class YieldSection:
    """What others feel of segments that are prepared ahead, with and without yield=on, the default:
    a load that writes and syncs on the same disk, and creates."""

    name = "yield"
    modes = ("on", "off")

    def rows(self, _scale):
        what = "4 KiB pwrite + fdatasync, native, while segments are prepared"
        rows = [Row(self.name, f"{what}, yield={mode}", "while none are", f"yield.alone.{mode}",
                    f"yield.sync.{mode}", "/s", "rate", at_least=0.85 if mode == "on" else None)
                for mode in self.modes]
        return rows + [Row(self.name, f"create a segment meanwhile: {name}", "yield=off",
                           f"yield.create.off.{name}", f"yield.create.on.{name}", "ns", "time")
                       for name in ("p50", "p99", "max")]

    def setup(self, bench, _places):
        self.bench = bench
        self.native = bench.directory("yield", "native")

    def round(self, number):
        size = self.bench.scale.segment_bytes
        path = os.path.join(self.native, f"load-{number}")
        self.bench.ops("fill", path, size=size, chunk=FOLIO_BYTES, fallocate=1)
        for mode in self.modes:
            self.measure(mode, number, path)
        os.unlink(path)

    def load(self, path):
        [timings] = self.bench.ops("sync", path, count=self.bench.scale.syncs, batch=250,
                                   size=self.bench.scale.segment_bytes)
        return timings["count"] * 1e9 / timings["total_ns"]

    def measure(self, mode, number, path):
        """Beside a mount of its own, whose pool is far from full."""
        bench, scale = self.bench, self.bench.scale
        place = ("yield", f"{mode}-{number}")
        source, mountpoint = (bench.directory(*place, name) for name in ("source", "mnt"))
        before = self.load(path)
        with Warmfs(bench.tool("fs", "warmfs"), source, mountpoint,
                    os.path.join(bench.base, f"warmfs-yield-{mode}-{number}.log"),
                    scale.yield_segment_bytes, scale.yield_ahead, more=f",yield={mode}") as mount:
            during = self.load(path)
            mount.wait(lambda: mount.counters().get("ready", 0) >= scale.yield_creates, FILL_TIMEOUT_S,
                       "prepare some segments")
            [timings] = bench.ops("create", f"{mountpoint}/c-", count=scale.yield_creates, suffix=".seg")
        shutil.rmtree(source)
        run("sync", "-f", self.native)
        bench.record(f"yield.sync.{mode}", during)
        bench.record(f"yield.alone.{mode}", (before + self.load(path)) / 2)
        for name in ("p50", "p99", "max"):
            bench.record(f"yield.create.{mode}.{name}", timings[f"{name}_ns"])


class Places:
    """The mounts, each made when the first section asks for it."""

    def __init__(self, bench):
        self.bench = bench
        self.made = {}
        # What is not on this machine -> why.
        self.missing = {}

    def make(self, name, function, *args):
        if name not in self.made:
            self.made[name] = function(*args)
        return self.made[name]

    def make_if_there(self, needed, name, function, *args):
        """None for what is not on this machine, and may well be missing."""
        try:
            return self.make(name, function, *args)
        except NotMeasured as error:
            self.missing[needed] = str(error)
            return self.made.setdefault(name, None)

    def disk(self):
        scale = self.bench.scale
        return self.make("disk", Site, self.bench, "disk", scale.segment_bytes, scale.ahead)

    def patient(self):
        """Where names and attributes may be remembered for a day."""
        return self.make("disk/patient", Site, self.bench, "disk/patient", self.bench.scale.append_bytes, 1, "append",
                         ",attr_timeout=86400")

    def loop(self):
        return self.make("loop", self.start_loop)

    def growing(self, place):
        """Where files are born empty, on the disk or on the loop device."""
        return self.make(f"{place}/growing", self.start_growing, place, "growing", "append")

    def growing_uring(self, place):
        """The same through io_uring, or None."""
        return self.make_if_there("uring", f"{place}/uring", self.start_uring, place)

    def stream(self, place):
        return self.make(f"{place}/stream", self.start_growing, place, "stream", "stream")

    def transient(self, place):
        return self.make(f"{place}/transient", self.start_growing, place, "transient", "append",
                         ",transient=on,transient_pool_size=2")

    def passthrough_hp(self):
        """Its mount point, or None where it cannot be built."""
        return self.make_if_there("hp", "hp", self.start_passthrough_hp)

    def bindfs(self):
        """Its mount point, or None where it is not installed."""
        return self.make_if_there("bindfs", "bindfs", self.start_bindfs)

    def large(self):
        return self.make("large", Site, self.bench, "disk/large", self.bench.scale.large_bytes, 1)

    def start_loop(self):
        bench = self.bench

        def fill(image, size):
            bench.ops("fill", image, size=size, chunk=MIB, fallocate=1)

        mountpoint = os.path.join(bench.base, "loop")
        bench.stack.enter_context(loop_filesystem(os.path.join(bench.base, "loop.img"),
                                                  bench.scale.loop_bytes, mountpoint, fill))
        return Site(bench, "loop", bench.scale.segment_bytes, 1)

    def start_growing(self, place, name, kind, more=""):
        # The filesystem that it is to be on.
        getattr(self, place)()
        return Site(self.bench, f"{place}/{name}", self.bench.scale.append_bytes, 1, kind, more)

    def start_uring(self, place):
        require_fuse_io_uring()
        return self.start_growing(place, "uring", "append", ",io_uring")

    def start_passthrough_hp(self):
        bench = self.bench
        binary = os.path.join(bench.options.build, "tests", "bench", "passthrough_hp")
        build_passthrough_hp(bench.options.libfuse, bench.options.build, binary)
        return self.start_other("passthrough_hp", "hp", [binary, "--foreground"])

    def start_bindfs(self):
        binary = shutil.which("bindfs")
        if not binary:
            raise NotMeasured("bindfs is not installed")
        return self.start_other("bindfs", "bindfs", [binary, "-f"])

    def start_other(self, name, directory, command):
        bench = self.bench
        source = bench.directory("disk", f"{directory}-source")
        spread_subdirectories(source)
        mountpoint = bench.directory("disk", f"{directory}-mnt")
        bench.stack.enter_context(Daemon(name, [*command, source, mountpoint], mountpoint,
                                         os.path.join(bench.base, f"{name}.log")))
        return mountpoint


def sections():
    return [CreateSection(), StoreSection(),
            SyncSection("sync", "disk", "this disk", 1.25),
            SyncSection("loop", "loop", "loop device", 2.4),
            AppendSection("append", "disk", "this disk", (1.1, 1.2, 0.9), unsynced=True),
            AppendSection("append-loop", "loop", "loop device", (2.2, 2.4, 1.5), unsynced=False),
            WriteSection(), UnlinkSection(), YieldSection(), BlockedSection(), PlainSection()]
