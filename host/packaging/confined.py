"""Starts a program as systemd would by a unit, or as a container's runtime would by an image, with what Linux has for it.

Of a unit these are carried out: its user, working folder, umask and folders of state and runtime, the read-only root,
/tmp and /dev of its own, no capabilities, no new privileges, and by a seccomp filter SystemCallFilter with its error,
SystemCallArchitectures, RestrictAddressFamilies and RestrictNamespaces. What only systemd and control groups have is not.
"""
import ctypes
import errno
import os
import re
import shlex
import struct
import subprocess
from pathlib import Path

LIBC = ctypes.CDLL(None, use_errno=True)
MS_RDONLY, MS_NOSUID, MS_NODEV, MS_REMOUNT, MS_BIND, MS_REC, MS_PRIVATE = 1, 2, 4, 32, 4096, 16384, 1 << 18
CLONE_NEWNS, CLONE_NEWIPC = 0x00020000, 0x08000000
CLONE_NEW_ANY = 0x7E020080
PR_CAPBSET_DROP, PR_SET_NO_NEW_PRIVS, PR_SET_SECCOMP = 24, 38, 22
CAPABILITIES = 64

HEADER = Path("/usr/include/x86_64-linux-gnu/asm/unistd_64.h")
ARCHITECTURE = 0xC000003E
FAMILIES = {"AF_UNIX": 1, "AF_INET": 2, "AF_INET6": 10, "AF_NETLINK": 16, "AF_PACKET": 17}
ALLOW, ERRNO, KILL = 0x7FFF0000, 0x00050000, 0x80000000


def checked(result):
    if result != 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))


def mount(source, target, kind=None, flags=0, data=None):
    text = lambda value: None if value is None else os.fsencode(value)
    checked(LIBC.mount(text(source), text(target), text(kind), ctypes.c_ulong(flags), text(data)))


class Unit:
    """A unit file: each key with all that was said of it, an empty value forgetting what was said before."""

    def __init__(self, path):
        self.said = {}
        for line in Path(path).read_text().splitlines():
            key, sign, value = line.partition("=")
            if not sign or line.startswith(("#", ";")):
                continue
            if value.strip():
                self.said.setdefault(key.strip(), []).append(value.strip())
            else:
                self.said[key.strip()] = []

    def one(self, key, default=None):
        return (self.said.get(key) or [default])[-1]

    def words(self, key):
        return [word for value in self.said.get(key, []) for word in value.split()]


def calls_of(name):
    """The system calls of a group of systemd's, or of a name."""
    if not name.startswith("@"):
        return {name}
    listed = subprocess.check_output(["systemd-analyze", "syscall-filter", name], text=True).splitlines()
    found = set()
    for word in (line.strip() for line in listed[1:]):
        if word and not word.startswith("#"):
            found |= calls_of(word)
    return found


def allowed(values):
    """As systemd reads its SystemCallFilter=: the first says that only what is named is allowed."""
    assert values and not values[0].startswith("~"), "a filter that begins with what is forbidden"
    found = calls_of("@default")
    for value in values:
        takes = value.startswith("~")
        for word in value.lstrip("~").split():
            found = found - calls_of(word) if takes else found | calls_of(word)
    return found


def instruction(code, k, jt=0, jf=0):
    return struct.pack("HBBI", code, jt, jf, k & 0xFFFFFFFF)


LOAD, EQUAL, NOT_BELOW, ANY_BIT, RETURN = 0x20, 0x15, 0x35, 0x45, 0x06


def seccomp(unit):
    """The filter that a unit asks for, as the kernel's program."""
    numbers = {name: int(n) for name, n in re.findall(r"#define __NR_(\w+) (\d+)", HEADER.read_text())}
    refused = ERRNO | getattr(errno, unit.one("SystemCallErrorNumber", "EPERM"))
    program = [
        instruction(LOAD, 4),
        instruction(EQUAL, ARCHITECTURE, 1, 0),
        instruction(RETURN, KILL),
        instruction(LOAD, 0),
        # The other calling convention of this architecture.
        instruction(NOT_BELOW, 0x40000000, 0, 1),
        instruction(RETURN, KILL),
    ]
    if unit.one("RestrictNamespaces") == "yes":
        # What clone3 is asked for lies in memory that a filter cannot read: the C library then asks clone.
        program += [instruction(EQUAL, numbers["clone3"], 0, 1), instruction(RETURN, ERRNO | errno.ENOSYS)]
        for name in ["unshare", "setns"]:
            program += [instruction(EQUAL, numbers[name], 0, 1), instruction(RETURN, refused)]
        program += [
            instruction(EQUAL, numbers["clone"], 0, 4),
            instruction(LOAD, 16),
            instruction(ANY_BIT, CLONE_NEW_ANY, 0, 1),
            instruction(RETURN, refused),
            instruction(LOAD, 0),
        ]
    families = unit.words("RestrictAddressFamilies")
    if families:
        tests = [instruction(EQUAL, FAMILIES[name], len(families) - at, 0) for at, name in enumerate(families)]
        program += [
            instruction(EQUAL, numbers["socket"], 0, len(tests) + 3),
            instruction(LOAD, 16),
            *tests,
            instruction(RETURN, ERRNO | errno.EAFNOSUPPORT),
            instruction(LOAD, 0),
        ]
    for number in sorted(numbers[name] for name in allowed(unit.said["SystemCallFilter"]) if name in numbers):
        program += [instruction(EQUAL, number, 0, 1), instruction(RETURN, ALLOW)]
    program.append(instruction(RETURN, refused))
    return program


class Filter(ctypes.Structure):
    _fields_ = [("length", ctypes.c_ushort), ("program", ctypes.c_void_p)]


def enter(root, writable, scratch, uid, gid, folder, umask, program):
    """In the child, before it becomes the program: `writable` folders stay so, `scratch` ones are new and empty."""
    root = str(root)
    checked(LIBC.unshare(CLONE_NEWNS | CLONE_NEWIPC))
    mount(None, "/", None, MS_REC | MS_PRIVATE)
    mount(root, root, None, MS_BIND)
    for path in scratch:
        os.makedirs(root + path, exist_ok=True)
    for path in writable:
        mount(root + path, root + path, None, MS_BIND)
    mount("proc", f"{root}/proc", "proc", MS_NOSUID | MS_NODEV)
    for path in scratch:
        mount("tmpfs", root + path, "tmpfs", MS_NOSUID | MS_NODEV, "mode=1777")
    mount("tmpfs", f"{root}/dev", "tmpfs", MS_NOSUID, "mode=755")
    for device in ["null", "zero", "full", "random", "urandom"]:
        Path(f"{root}/dev/{device}").touch()
        mount(f"/dev/{device}", f"{root}/dev/{device}", None, MS_BIND)
    mount(None, root, None, MS_BIND | MS_REMOUNT | MS_RDONLY | MS_NOSUID)
    os.chroot(root)
    os.chdir(folder)
    os.umask(umask)
    for capability in range(CAPABILITIES):
        # There are fewer than these: the kernel says so, and nothing is to be dropped then.
        LIBC.prctl(PR_CAPBSET_DROP, capability, 0, 0, 0)
    os.setgroups([])
    os.setresgid(gid, gid, gid)
    os.setresuid(uid, uid, uid)
    checked(LIBC.prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0))
    if program:
        bytes_ = ctypes.create_string_buffer(b"".join(program))
        wanted = Filter(len(program), ctypes.cast(bytes_, ctypes.c_void_p).value)
        checked(LIBC.prctl(PR_SET_SECCOMP, 2, ctypes.byref(wanted), 0, 0))


def start_unit(unit, root, more, **options):
    """Starts what a unit says, in `root`; `more` are variables that systemd would set."""
    user, group = unit.one("User"), unit.one("Group")
    rows = [line.split(":") for line in Path(root, "etc/passwd").read_text().splitlines()]
    uid, gid = next((int(row[2]), int(row[3])) for row in rows if row[0] == user)
    writable = []
    for key, base in [("StateDirectory", "/var/lib"), ("RuntimeDirectory", "/run")]:
        for name in unit.words(key):
            path = Path(f"{root}{base}/{name}")
            path.mkdir(exist_ok=True)
            os.chown(path, uid, gid)
            path.chmod(int(unit.one(f"{key}Mode", "0755"), 8))
            writable.append(f"{base}/{name}")
    assert unit.one("ProtectSystem") == "strict" and unit.one("CapabilityBoundingSet") is None
    environment = {"PATH": "/usr/bin:/bin", "USER": user, "LANG": "C.UTF-8", "HOME": "/var/lib/bellhop", **more}
    for file in unit.said.get("EnvironmentFile", []):
        path = Path(root + file.lstrip("-"))
        if path.exists() or not file.startswith("-"):
            lines = [line for line in path.read_text().splitlines() if "=" in line and not line.startswith("#")]
            environment.update(line.split("=", 1) for line in lines)
    folder, umask = unit.one("WorkingDirectory", "/"), int(unit.one("UMask", "0022"), 8)
    program = seccomp(unit)
    scratch = ["/tmp", "/var/tmp"] if unit.one("PrivateTmp") == "yes" else []
    within = lambda: enter(root, writable, scratch, uid, gid, folder, umask, program)
    return subprocess.Popen(shlex.split(unit.one("ExecStart")), env=environment, preexec_fn=within, **options)


def start_image(config, root, volumes, arguments, **options):
    """Starts what an image's configuration says, its root read-only, in `root`; the volumes lie in it."""
    uid, gid = (int(number) for number in config["User"].split(":"))
    environment = dict(line.split("=", 1) for line in config["Env"])
    within = lambda: enter(root, volumes, ["/tmp"], uid, gid, config["WorkingDir"], 0o022, None)
    command = [*config["Entrypoint"], *arguments]
    return subprocess.Popen(command, env=environment, preexec_fn=within, **options)
