#!/usr/bin/env python3
"""usage: udsoncan_flash.py INTERFACE ECU.JSON IMAGE GRANT VERSION

An independent tester: udsoncan on the kernel's ISO-TP through can-isotp. It programs a packed image
with its install grant by standard UDS services alone, as docs/spec/ecu-profile.md says, and then
waits until the new application is heard. It knows nothing of the image but the spec's header.
"""

import json
import socket
import struct
import subprocess
import sys
import time

import isotp
from udsoncan import DataFormatIdentifier, DidCodec, MemoryLocation
from udsoncan.client import Client
from udsoncan.connections import IsoTPSocketConnection
from udsoncan.services import DiagnosticSessionControl, ECUReset

HEADER_BYTES = 1536
TABLE_PAGE_BYTES = 4096
METADATA_ADDRESS = 0xF0000000
# The frame gap that the kernel is to keep when the ECU asks for none: none.
NO_GAP = 0xFFFFFFFF
PATIENCE_S = 60

FINGERPRINT, SOFTWARE_VERSION, PROGRESS, BOOT_STATUS = 0xF15A, 0xF195, 0xFD00, 0xFD01
PRECONDITIONS, ERASE, CHECK, DEPENDENCIES = 0x0203, 0xFF00, 0x0202, 0xFF01
ACTIVATE, SEAL = 0x0210, 0x0212
HEALTHY, SEALED = 4, 5


class Raw(DidCodec):
    """A data record as it is."""

    def encode(self, value):
        return value

    def decode(self, payload):
        return payload

    def __len__(self):
        raise DidCodec.ReadAllRemainingData


def access_key(level, seed, params):  # pylint: disable=unused-argument
    """AES-CMAC over the seed and 01, by the OpenSSL command line."""
    command = ["openssl", "mac", "-cipher", "AES-128-CBC", "-macopt", f"hexkey:{params}", "CMAC"]
    done = subprocess.run(command, input=seed + b"\x01", capture_output=True, check=True)
    return bytes.fromhex(done.stdout.decode().strip())


def connect(interface, request_id, response_id):
    """A UDS connection over the kernel's ISO-TP."""
    channel = isotp.socket(timeout=0.1)
    channel.set_opts(frame_txtime=NO_GAP, txpad=0xCC)
    address = isotp.Address(isotp.AddressingMode.Normal_11bits, txid=request_id, rxid=response_id)
    return IsoTPSocketConnection(interface, address, tpsock=channel)


class Heartbeats:
    """What the application says about itself on the bus."""

    def __init__(self, interface, can_id):
        self.can = socket.socket(socket.AF_CAN, socket.SOCK_RAW, socket.CAN_RAW)
        filter_one = struct.pack("=II", can_id, 0x7FF)
        self.can.setsockopt(socket.SOL_CAN_RAW, socket.CAN_RAW_FILTER, filter_one)
        self.can.bind((interface,))
        self.can.settimeout(PATIENCE_S)

    def drop_old(self):
        self.can.setblocking(False)
        try:
            while True:
                self.can.recv(16)
        except BlockingIOError:
            self.can.settimeout(PATIENCE_S)

    def wait(self):
        """The version in the next heartbeat."""
        self.drop_old()
        data = self.can.recv(16)[8:]
        major, minor, patch = struct.unpack(">HHI", data)
        return f"{major}.{minor}.{patch}"


class Tester:
    """The sequence of the ECU profile."""

    def __init__(self, client, functional, heartbeats):
        self.client = client
        self.functional = functional
        self.heartbeats = heartbeats

    def say(self, text):
        print(f"{time.monotonic():8.1f} {text}", flush=True)

    def routine(self, routine_id):
        self.say(f"routine {routine_id:04X}")
        response = self.client.start_routine(routine_id)
        status = response.service_data.routine_status_record
        assert status == b"\x00", f"routine {routine_id:04X}: status {status.hex()}"

    def record(self, did):
        return self.client.read_data_by_identifier(did).service_data.values[did]

    def enter_programming(self):
        sessions = DiagnosticSessionControl.Session
        self.client.change_session(sessions.extendedDiagnosticSession)
        self.routine(PRECONDITIONS)
        with self.functional.suppress_positive_response:
            self.functional.control_dtc_setting(2)
        with self.functional.suppress_positive_response:
            self.functional.communication_control(3, 1)
        self.client.change_session(sessions.programmingSession)
        self.client.unlock_security_access(1)
        self.say("programming session, unlocked")

    def reset(self):
        self.client.ecu_reset(ECUReset.ResetType.hardReset)
        version = self.heartbeats.wait()
        self.say(f"after reset: application {version}")
        return version

    def transfer(self, address, data, encrypted, page_size=None):
        where = MemoryLocation(address, len(data), address_format=32, memorysize_format=32)
        format_id = DataFormatIdentifier(compression=0, encryption=int(encrypted))
        response = self.client.request_download(where, format_id)
        block = response.service_data.max_length - 2
        if page_size:
            # Whole parts of a page: a block may not hold parts of two.
            block = 1 << (min(block, page_size).bit_length() - 1)
        self.say(f"transfer of {len(data)} bytes in blocks of {block}")
        for number, start in enumerate(range(0, len(data), block), start=1):
            self.client.transfer_data(number & 0xFF, data[start : start + block])
        self.client.request_transfer_exit()

    def program(self, image, grant):
        page_size, page_count = struct.unpack_from("<II", image, 72)
        (table_pages,) = struct.unpack_from("<H", image, 208)
        split = HEADER_BYTES + table_pages * TABLE_PAGE_BYTES
        metadata, payload = grant + image[:split], image[split:]
        assert len(payload) == page_size * page_count

        self.enter_programming()
        date = bytes.fromhex(time.strftime("%y%m%d"))
        self.client.write_data_by_identifier(FINGERPRINT, date + b"TESTER1")
        assert self.record(PROGRESS)[0] == 0, "an installation is under way already"
        self.transfer(METADATA_ADDRESS, metadata, encrypted=False)
        self.routine(ERASE)
        (offset,) = struct.unpack_from(">I", self.record(PROGRESS), 46)
        assert offset == 0, f"next_offset {offset} after erase"
        self.transfer(offset, payload, encrypted=True, page_size=page_size)
        self.routine(CHECK)
        self.routine(DEPENDENCIES)

    def activate(self):
        self.enter_programming()
        self.routine(ACTIVATE)
        return self.reset()

    def await_state(self, state):
        deadline = time.monotonic() + PATIENCE_S
        while self.record(BOOT_STATUS)[4] != state:
            assert time.monotonic() < deadline, f"never in state {state}"
            self.heartbeats.wait()

    def seal(self):
        session = DiagnosticSessionControl.Session.extendedDiagnosticSession
        self.client.change_session(session)
        self.client.unlock_security_access(1)
        self.routine(SEAL)
        self.await_state(SEALED)


def main():
    interface, ecu_path, image_path, grant_path, version = sys.argv[1:]
    with open(ecu_path, encoding="ascii") as file:
        ecu = json.load(file)
    with open(image_path, "rb") as file:
        image = file.read()
    with open(grant_path, "rb") as file:
        grant = file.read()
    response_id = int(ecu["response_id"], 16)
    config = {
        "security_algo": access_key,
        "security_algo_params": ecu["access_key"],
        "data_identifiers": {
            did: Raw for did in (FINGERPRINT, SOFTWARE_VERSION, PROGRESS, BOOT_STATUS)
        },
        "request_timeout": PATIENCE_S,
        # This machine is slow, and so is the tester on it.
        "p2_timeout": 10,
        "p2_star_timeout": 30,
        "use_server_timing": False,
    }
    heartbeats = Heartbeats(interface, int(ecu["heartbeat_id"], 16))
    physical = connect(interface, int(ecu["request_id"], 16), response_id)
    functional = connect(interface, int(ecu["functional_id"], 16), response_id)
    with Client(physical, config=config) as client, Client(functional, config=config) as all_ecus:
        tester = Tester(client, all_ecus, heartbeats)
        tester.say(f"application {heartbeats.wait()} runs")
        tester.program(image, grant)
        assert tester.reset() != version, "not activated, and yet it runs"
        assert tester.activate() == version
        tester.await_state(HEALTHY)
        assert tester.record(SOFTWARE_VERSION) == version.encode()
        tester.seal()
        assert heartbeats.wait() == version
        tester.say(f"application {version} runs and is sealed")


main()
