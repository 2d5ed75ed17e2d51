#!/usr/bin/env python3
"""Skips instructions of verify-and-boot, one fault a run, and tells what became of forgeries.

Every instruction address that a start executes is skipped in all its executions; of those that run
at most 16 times, also each single execution. See docs/spec/faults.md.
"""

import argparse
import bisect
import bisect
import json
import multiprocessing
import os
import random
import sys
from collections import Counter, defaultdict

import emulator
from emulator import BOOTED, CRASHED, HUNG, REFUSED, Board, Program, State, instruction_len

# Instructions that run at most as often are also skipped in one execution alone.
RARE = 16
ENDLESS = 1_000_000_000
# Instructions between two comparisons with the start without a fault.
STRETCH = 10_000
# Faults for each forgery: in a quick run, and against the variant that only has to fall once.
QUICK, SINGLE = 150, 3000
# After how many faults a run without one is checked.
CHECKED = 200
# How often a run is compared before it is left to run to its end.
ATTEMPTS = 12


def board_of(program, cases):
    """A board with the flash map that the cases are made for."""
    with open(os.path.join(cases, "layout"), encoding="utf-8") as file:
        return Board(program, [int(word) for word in file.read().split()])


def load(board, cases, name):
    contents = []
    for ending in ("flash", "provision"):
        with open(os.path.join(cases, f"{name}.{ending}"), "rb") as file:
            contents.append(file.read())
    board.load(*contents)


class Trace:
    """A start without a fault: its blocks in order, and how often each instruction runs."""

    def __init__(self, program, cases, name):
        board = board_of(program, cases)
        load(board, cases, name)
        self.blocks = []
        board.uc.hook_add(
            emulator.unicorn.UC_HOOK_BLOCK,
            lambda _uc, address, size, _data: self.blocks.append((address, size)),
            begin=0,
            end=emulator.CODE_LEN,
        )
        self.outcome = board.run(ENDLESS)
        self.counts = Counter()
        self.last = {}
        self.instructions = 0
        inside = {block: instructions_of(board.code, *block) for block in set(self.blocks)}
        self.starts = []
        for index, block in enumerate(self.blocks):
            self.starts.append(self.instructions)
            self.instructions += len(inside[block])
            for address in inside[block]:
                self.counts[address] += 1
                self.last[address] = index
        self.inside = inside
        self.markers = self.find_markers()

    def find_markers(self):
        """Blocks that run once, a stretch apart. A run that is there in the same state as without
        its fault ends the same way."""
        often = Counter(address for address, _ in self.blocks)
        markers, after = [], 0
        once = [index for index, (address, _) in enumerate(self.blocks) if often[address] == 1]
        for index, following in zip(once, [*once[1:], len(self.blocks) - 1]):
            gap = self.starts[following] - self.starts[index]
            if self.starts[index] >= after or gap > STRETCH:
                markers.append(index)
                after = self.starts[index] + STRETCH
        return markers


def instructions_of(code, address, size):
    found, end = [], address + size
    while address < end:
        found.append(address)
        address += instruction_len(code, address)
    return found


class Injector:
    """Runs one start and, from each of its blocks, the faults that begin there."""

    def __init__(self, program, cases, name, trace, limit):
        self.trace, self.limit, self.faults = trace, limit, 0
        self.free = board_of(program, cases)
        load(self.free, cases, name)
        self.at_marker = {}
        for marker in trace.markers:
            self.free.until([trace.blocks[marker][0]])
            if self.free.run(ENDLESS) is not None:
                raise RuntimeError(f"{name}: a block that runs once was not met")
            self.at_marker[marker] = State(self.free)
        self.traced = board_of(program, cases)
        load(self.traced, cases, name)

    def run(self, targets):
        """`targets`: by the number of a block, the (address, single) to skip from there."""
        seen = 0
        results = []

        def at_block(_uc, address, _size, _data):
            nonlocal seen
            index, seen = seen, seen + 1
            if index in targets:
                state = self.state(address)
                for target, single in targets[index]:
                    results.append((target, single, self.fault(index, state, target, single)))

        self.traced.uc.hook_add(
            emulator.unicorn.UC_HOOK_BLOCK, at_block, begin=0, end=emulator.CODE_LEN
        )
        self.traced.run(ENDLESS)
        return results

    def state(self, address):
        state = State(self.traced)
        state.registers = list(state.registers)
        state.registers[emulator.PC] = address
        return state

    def fault(self, index, state, address, single):
        board = self.free
        self.faults += 1
        if self.faults % CHECKED == 0:
            self.check()
        board.restore(state)
        board.skip(address)
        if single:
            # To the instruction behind it, and no further: from there on the code is as it was.
            behind = address + instruction_len(board.code, address)
            board.until([behind])
            if board.run(self.limit) is not None or board.pc() != behind:
                raise RuntimeError(f"skipped {address:#x}, and went on at {board.pc():#x}")
            board.unskip(address)
            return self.finish(index)
        outcome = self.finish(max(index, self.trace.last[address]))
        board.unskip(address)
        return outcome

    def check(self):
        """A run without a fault still ends as the first one did: nothing of those before is left."""
        board = self.free
        board.restore(self.at_marker[self.trace.markers[0]])
        board.until([])
        outcome = board.run(self.limit)
        if outcome != self.trace.outcome or board.code != bytes(board.uc.mem_read(0, len(board.code))):
            raise RuntimeError(f"without a fault: {outcome}, not {self.trace.outcome}")

    def finish(self, index):
        """Runs to the end, or until the fault, which is over after block `index`, has no effect."""
        board = self.free
        following = bisect.bisect_right(self.trace.markers, index)
        for marker in self.trace.markers[following : following + ATTEMPTS]:
            board.until([self.trace.blocks[marker][0]])
            outcome = board.run(self.limit)
            if outcome is not None:
                return outcome
            if State(board).same(self.at_marker[marker]):
                return self.trace.outcome
        board.until([])
        return board.run(self.limit)


def targets_of(trace, job, jobs, sample):
    """The faults of one job, by the block in which they begin."""
    static, single = {}, []
    for index, block in enumerate(trace.blocks):
        for address in trace.inside[block]:
            static.setdefault(address, index)
            if trace.counts[address] <= RARE:
                single.append((index, address))
    everything = [(index, address, False) for address, index in static.items()]
    everything += [(index, address, True) for index, address in single]
    everything.sort()
    if sample:
        everything = sorted(random.Random(1).sample(everything, min(sample, len(everything))))
    targets = defaultdict(list)
    # Neighbours go to different jobs: what hangs or runs long comes in stretches.
    for index, address, one in everything[job::jobs]:
        targets[index].append((address, one))
    return targets


def work(arguments):
    program, cases, name, limit, job, jobs, sample = arguments
    program = Program(program)
    trace = Trace(program, cases, name)
    injector = Injector(program, cases, name, trace, limit)
    return injector.run(targets_of(trace, job, jobs, sample))


def attack(pool, jobs, path, cases, forgeries, sample):
    """All faults against all forgeries on one program; a row for each forgery."""
    program = Program(path)
    genuine = Trace(program, cases, "genuine")
    if genuine.outcome != BOOTED:
        sys.exit(f"{path}: the genuine image does not boot")
    rows = []
    for name in forgeries:
        trace = Trace(program, cases, name)
        limit = genuine.instructions * 3 // 2
        parts = [(path, cases, name, limit, job, jobs, sample) for job in range(jobs)]
        results = [one for part in pool.imap_unordered(work, parts) for one in part]
        rows.append(row_of(program, name, trace, results))
        show(rows[-1])
    return {"instructions": genuine.instructions, "forgeries": rows}


def row_of(program, name, trace, results):
    row = {"name": name, "control": trace.outcome, "instructions": trace.instructions}
    for kind, single in (("addresses", False), ("executions", True)):
        outcomes = Counter(outcome for _, one, outcome in results if one == single)
        row[kind] = {key: outcomes[key] for key in (REFUSED, CRASHED, HUNG, BOOTED)}
    row["where"] = [
        {
            "address": f"{address:#x}",
            "skipped": "once" if single else "always",
            "function": program.function(address),
        }
        for address, single, outcome in sorted(results)
        if outcome == BOOTED
    ]
    return row


HEADINGS = ("forgery", "no fault", "skipped", REFUSED, CRASHED, HUNG, BOOTED)


def show(row):
    for kind in ("addresses", "executions"):
        found = row[kind]
        cells = [f"{sum(found.values())} {kind}", *(found[key] for key in HEADINGS[3:])]
        print(f"| {row['name']} | {row['control']} | " + " | ".join(map(str, cells)) + " |")
    for place in row["where"]:
        print(f"    {place['address']} {place['skipped']} in {place['function']}")
    sys.stdout.flush()


def equal_counts(path, cases):
    """How many instructions each way of being wrong takes, by stage."""
    program = Program(path)
    stages = defaultdict(dict)
    for file in sorted(os.listdir(cases)):
        name, ending = os.path.splitext(file)
        if ending == ".flash" and name.startswith("equal-"):
            _, stage, where = name.split("-")
            trace = Trace(program, cases, name)
            if trace.outcome != REFUSED:
                sys.exit(f"{name}: {trace.outcome}")
            stages[stage][where] = trace.instructions
    # Of what only a tester can ask, under QEMU.
    with open(os.path.join(cases, "rejects"), encoding="utf-8") as file:
        for line in file:
            stage, where, count = line.split()
            stages[stage]["byte " + where] = int(count)
    return stages


def forgeries_in(cases):
    names = sorted(file[:-6] for file in os.listdir(cases) if file.endswith(".flash"))
    return [name for name in names if name != "genuine" and not name.startswith("equal-")]


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("hardened", help="the program")
    parser.add_argument("single", help="the same with the feature single-checks")
    parser.add_argument("cases", help="the folder of the cases")
    parser.add_argument("forgeries", nargs="*", help="only these")
    parser.add_argument("--quick", action="store_true", help="a seeded sample of the faults")
    parser.add_argument("--jobs", type=int, default=os.cpu_count())
    parser.add_argument("--json", help="writes the results to a file")
    options = parser.parse_args()
    forgeries = options.forgeries or forgeries_in(options.cases)
    report = {}
    wrong = []
    with multiprocessing.Pool(options.jobs) as pool:
        samples = {"hardened": QUICK, "single": QUICK} if options.quick else {"hardened": None, "single": SINGLE}
        for variant, sample in samples.items():
            print(f"\n{variant}" + (f", a sample of {sample} faults a forgery" if sample else ""))
            print("| " + " | ".join(HEADINGS) + " |")
            print("|---|---|---|---|---|---|---|")
            path = getattr(options, variant)
            found = attack(pool, options.jobs, path, options.cases, forgeries, sample)
            report[variant] = found
            rows = found["forgeries"]
            wrong += [f"{variant} boots {row['name']} without a fault" for row in rows if row["control"] != REFUSED]
            booted = sum(row[kind][BOOTED] for row in rows for kind in ("addresses", "executions"))
            if variant == "hardened" and booted:
                wrong.append(f"{booted} skips boot a forgery")
            # A quick sample is too small to be sure of hitting one of the few that count.
            if variant == "single" and not booted and not options.quick:
                wrong.append("the variant with single checks does not fall: do the faults reach it?")
    report["rejects"] = equal_counts(options.hardened, options.cases)
    print("\n| rejected | wrong at | instructions |\n|---|---|---|")
    for stage, counts in report["rejects"].items():
        for where, count in counts.items():
            print(f"| {stage} | {where} | {count} |")
        if len(set(counts.values())) != 1:
            wrong.append(f"rejecting a {stage} takes {counts} instructions")
    if options.json:
        with open(options.json, "w", encoding="utf-8") as file:
            json.dump(report, file, indent=1)
    sys.exit("; ".join(wrong) if wrong else 0)


if __name__ == "__main__":
    main()
