"""Ports on 127.0.0.1 that belong to this process until it ends, however many tests run side by side.

A claim on a port is a name in the abstract Unix namespace: the kernel gives it to one process at a time and takes it back at
the end, and nothing lies on a disk. The ports are below those that the kernel gives to clients by itself, so that nobody's
connection takes one between the claim and the server's bind.
"""

import random
import socket

LOWEST = 10000
TRIES_MAX = 1000
_claims = []


def _highest():
    with open("/proc/sys/net/ipv4/ip_local_port_range", encoding="ascii") as f:
        first_of_kernel = int(f.read().split()[0])
    return first_of_kernel - 1 if first_of_kernel > 2 * LOWEST else 65000


def _claim(port):
    """The socket that is the claim, or OSError."""
    s = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    try:
        s.bind("\0mailstead-test-port-%d" % port)
    except OSError:
        s.close()
        raise
    return s


def _is_free(port, kinds):
    """OSError when a program that makes no claims has it."""
    for kind in kinds:
        with socket.socket(socket.AF_INET, kind) as s:
            s.bind(("127.0.0.1", port))


def take_offset(bases, kinds=(socket.SOCK_STREAM,)):
    """An offset; each of the bases plus it is a port of ours."""
    choice = random.SystemRandom()
    for _ in range(TRIES_MAX):
        offset = choice.randint(LOWEST - min(bases), _highest() - max(bases))
        claims = []
        try:
            for base in bases:
                claims.append(_claim(base + offset))
                _is_free(base + offset, kinds)
        except OSError:
            for s in claims:
                s.close()
            continue
        _claims.extend(claims)
        return offset
    raise RuntimeError("no free ports")


def take(kinds=(socket.SOCK_STREAM, socket.SOCK_DGRAM)):
    """A port of ours that is free for all of the socket kinds."""
    return take_offset((0,), kinds)
