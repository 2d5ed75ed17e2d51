"""The emulated board of ecu-bootloader/boards in Unicorn: memory, state, runs."""

import struct

import unicorn
from unicorn import arm_const as arm

CODE, CODE_LEN = 0x0000_0000, 0x80000
RAM, RAM_LEN = 0x2000_0000, 0x20000
FLASH = 0x2100_0000
SLOT_A_LEN = 256 * 1024
# What a start may change without a fault: the journal. The rest is written by some faults only.
JOURNAL_LEN = 2 * 4096
PROVISION, REPORT = 0x21E0_0000, 0x21E0_1000
SYSTEM = 0xE000_E000
# NOP of two bytes and of four: one instruction either way, so that a count of instructions and the
# conditions of an IT block stay with what they were for.
NOPS = {2: b"\x00\xbf", 4: b"\xaf\xf3\x00\x80"}
REGISTERS = (
    [getattr(arm, f"UC_ARM_REG_R{n}") for n in range(13)]
    + [arm.UC_ARM_REG_SP, arm.UC_ARM_REG_LR, arm.UC_ARM_REG_PC, arm.UC_ARM_REG_XPSR]
    + [getattr(arm, f"UC_ARM_REG_D{n}") for n in range(16)]
)
SP, PC = 13, 15

# How a run ends.
BOOTED, REFUSED, CRASHED, HUNG = "booted", "refused", "crashed", "hung"


class Program:
    """An ELF file: what is loaded, and the addresses of its symbols."""

    def __init__(self, path):
        with open(path, "rb") as file:
            data = file.read()
        (entry, phoff, shoff) = struct.unpack_from("<III", data, 24)
        (phsize, phnum, shsize, shnum) = struct.unpack_from("<HHHH", data, 42)
        self.entry = entry
        self.segments = []
        for at in range(phoff, phoff + phsize * phnum, phsize):
            kind, offset, _, physical, size = struct.unpack_from("<IIIII", data, at)
            if kind == 1 and size:
                self.segments.append((physical, data[offset : offset + size]))
        self.symbols = {}
        self.functions = []
        sections = [struct.unpack_from("<10I", data, shoff + shsize * n) for n in range(shnum)]
        for section in sections:
            if section[1] == 2:
                self.read_symbols(data, section, sections[section[6]])
        self.functions.sort()

    def read_symbols(self, data, table, strings):
        for at in range(table[4], table[4] + table[5], 16):
            name, value, size, info = struct.unpack_from("<IIIB", data, at)
            start = strings[4] + name
            text = data[start : data.index(b"\0", start)].decode()
            self.symbols[text] = value & ~1 if info & 15 == 2 else value
            if info & 15 == 2:
                self.functions.append((value & ~1, size, text))

    def function(self, address):
        """The name of the function at an address."""
        for start, size, name in self.functions:
            if start <= address < start + size:
                return name
        return "?"


def instruction_len(code, address):
    """2 or 4 bytes (Arm DDI 0403, A5.1)."""
    return 4 if code[address + 1] >> 3 in (0b11101, 0b11110, 0b11111) else 2


class State:
    """Registers and memory at one moment."""

    def __init__(self, board):
        self.registers = board.uc.reg_read_batch(REGISTERS)
        self.ram = bytes(board.uc.mem_read(RAM, RAM_LEN))
        self.journal = bytes(board.uc.mem_read(FLASH, JOURNAL_LEN))
        self.report = bytes(board.uc.mem_read(REPORT, 8))

    def same(self, other):
        """Whether nothing that is still used differs: below the stack pointer nothing is."""
        dead = self.registers[SP] - RAM
        return (
            self.registers == other.registers
            and self.ram[dead:] == other.ram[dead:]
            and self.journal == other.journal
        )


class Board:
    """One emulated board."""

    def __init__(self, program, layout):
        self.program = program
        self.flash_len, self.slot_a = layout
        mode = unicorn.UC_MODE_THUMB | unicorn.UC_MODE_MCLASS
        self.uc = unicorn.Uc(unicorn.UC_ARCH_ARM, mode)
        self.uc.ctl_set_cpu_model(arm.UC_CPU_ARM_CORTEX_M4)
        self.uc.mem_map(CODE, CODE_LEN, unicorn.UC_PROT_READ | unicorn.UC_PROT_EXEC)
        writable = unicorn.UC_PROT_READ | unicorn.UC_PROT_WRITE
        self.uc.mem_map(RAM, RAM_LEN, writable)
        # Not executable, so that entering a slot ends the run.
        self.uc.mem_map(FLASH, (self.flash_len + 0xFFF) & ~0xFFF, writable)
        self.uc.mem_map(PROVISION, 0x2000, writable)
        self.uc.mem_map(SYSTEM, 0x1000, writable)
        for address, data in program.segments:
            self.uc.mem_write(address, data)
        self.code = bytes(self.uc.mem_read(CODE, CODE_LEN))
        self.stop = program.symbols["board_stop"]
        self.uc.ctl_exits_enabled(True)
        self.exits = [self.stop]
        self.uc.ctl_set_exits(self.exits)
        # A fault may leave the processor in a mode that its registers do not show.
        self.fresh = self.uc.context_save()
        self.slots = b""
        self.provision = b""
        self.spoilt = False
        self.uc.hook_add(
            unicorn.UC_HOOK_MEM_WRITE,
            self.note_write,
            begin=FLASH + JOURNAL_LEN,
            end=FLASH + self.flash_len - 1,
        )

    def note_write(self, *_):
        """A slot was written to, so it is restored before the next run."""
        self.spoilt = True

    def load(self, flash, provision):
        """Power on with these contents."""
        self.uc.mem_write(RAM, bytes(RAM_LEN))
        self.uc.mem_write(FLASH, flash)
        self.slots = flash[JOURNAL_LEN:]
        self.provision = provision + bytes(0x1000 - len(provision))
        self.uc.mem_write(PROVISION, self.provision)
        self.uc.mem_write(REPORT, bytes(8))
        self.uc.reg_write_batch([(register, 0) for register in REGISTERS if register != arm.UC_ARM_REG_XPSR])
        self.uc.reg_write(arm.UC_ARM_REG_XPSR, 0x0100_0000)
        self.uc.reg_write(arm.UC_ARM_REG_SP, struct.unpack_from("<I", self.code, 0)[0])
        self.uc.reg_write(arm.UC_ARM_REG_PC, self.program.entry | 1)

    def restore(self, state):
        """Goes back to a state."""
        self.uc.context_restore(self.fresh)
        self.uc.mem_write(PROVISION, self.provision)
        self.uc.mem_write(RAM, state.ram)
        self.uc.mem_write(FLASH, state.journal)
        if self.spoilt:
            self.uc.mem_write(FLASH + JOURNAL_LEN, self.slots)
            self.spoilt = False
        self.uc.mem_write(REPORT, state.report)
        registers = list(state.registers)
        registers[PC] |= 1
        self.uc.reg_write_batch(list(zip(REGISTERS, registers)))

    def patch(self, address, data):
        """Puts other code at an address."""
        self.uc.mem_write(address, data)
        self.uc.ctl_remove_cache(address, address + len(data))

    def skip(self, address):
        """Makes the instruction at an address do nothing."""
        self.patch(address, NOPS[instruction_len(self.code, address)])

    def unskip(self, address):
        """Undoes `skip`."""
        self.patch(address, self.code[address : address + 4])

    def pc(self):
        return self.uc.reg_read(arm.UC_ARM_REG_PC)

    def is_in_slot(self):
        """Whether it goes on in slot A. A Cortex-M runs Thumb code alone: after a branch to an even
        address, such as that of the slot, it takes a fault (INVSTATE, Arm DDI 0403, B1.5.14)."""
        thumb = self.uc.reg_read(arm.UC_ARM_REG_XPSR) >> 24 & 1
        return thumb == 1 and self.slot_a <= self.pc() < self.slot_a + SLOT_A_LEN

    def until(self, exits):
        """Where the next run ends besides the stop."""
        exits = [self.stop, *exits]
        for address in set(exits) ^ set(self.exits):
            self.uc.ctl_remove_cache(address, address + 2)
        self.exits = exits
        self.uc.ctl_set_exits(exits)

    def run(self, limit):
        """Runs to an exit; how it ended, or None at another exit than the stop. A run that has not
        ended after `limit` instructions hangs."""
        try:
            self.uc.emu_start(self.pc() | 1, 0, count=limit)
        except unicorn.UcError:
            return BOOTED if self.is_in_slot() else CRASHED
        pc = self.pc()
        if pc == self.stop:
            (word,) = struct.unpack("<I", self.uc.mem_read(REPORT, 4))
            return CRASHED if word >> 16 == 0xDEAD or word == 0 else REFUSED
        return None if pc in self.exits else HUNG
