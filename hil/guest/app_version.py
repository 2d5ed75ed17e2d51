#!/usr/bin/env python3
"""usage: app_version.py APP VERSION OUT

Writes a version into the ECU application: the block that begins with CANOPUS-APP-CFG1 holds major
u16, minor u16, patch u32 (little-endian), a behaviour byte (0: works) and zeros.
"""

import struct
import sys

MAGIC = b"CANOPUS-APP-CFG1"


def main():
    source, version, target = sys.argv[1:]
    with open(source, "rb") as file:
        program = bytearray(file.read())
    at = program.find(MAGIC)
    if at < 0 or program.find(MAGIC, at + 1) >= 0:
        sys.exit(f"{source}: not exactly one configuration block")
    block = MAGIC + struct.pack("<HHIB7x", *map(int, version.split(".")), 0)
    program[at : at + len(block)] = block
    with open(target, "wb") as file:
        file.write(program)


main()
