"""Programs that try to leave their process, to stay for ever, or to take all there is."""

import random

ESCAPES = {
    "write": "open({place!r}, 'w').write('x')",
    "append": "open({precious!r}, 'a').write('x')",
    "remove": "import os\nos.remove({precious!r})",
    "rename": "import os\nos.rename({precious!r}, {place!r})",
    "truncate": "import os\nos.truncate({precious!r}, 0)",
    "mkdir": "import os\nos.mkdir({place!r})",
    "link": "import os\nos.link({precious!r}, {place!r})",
    "symlink": "import os\nos.symlink({precious!r}, {place!r})",
    "chmod": "import os\nos.chmod({precious!r}, 0)",
    "read": "open({precious!r}).read()",
    "environ": "open('/proc/1/environ', 'rb').read()",
    "passwords": "open('/etc/passwd').read()",
    "memory": "open('/proc/self/mem', 'r+b')",
    "listing": "import os\nos.listdir('/')",
    "fork": "import os\nwhile True: os.fork()",
    "vfork": "import subprocess\nsubprocess.run(['true'])",
    "shell": "import os\nassert os.system('true') == 0, OSError('Error')",
    "exec": "import os\nos.execv('/bin/true', ['true'])",
    "spawn": "import multiprocessing as m\nm.Process(target=print).start()",
    "kill": "import os\nos.kill(os.getppid(), 9)",
    "kill all": "import os\nos.kill(-1, 9)",
    "tcp": "import socket\nsocket.create_connection(('127.0.0.1', 80))",
    "udp": "import socket\nsocket.socket(socket.AF_INET, socket.SOCK_DGRAM)",
    "unix": "import socket\nsocket.socket(socket.AF_UNIX)",
    "url": "import urllib.request\nurllib.request.urlopen('http://127.0.0.1')",
    "limits": "import resource\nresource.setrlimit(resource.RLIMIT_CPU, (9, 9))",
    "root": "import os\nos.setuid(0)\nos.chroot('/')",
    "priority": "import os\nos.nice(-5)",
    "trace": ("import ctypes\nassert ctypes.CDLL(None).ptrace(16, 1, 0, 0) == 0, OSError('Error')"),
    "raw fork": "import ctypes\nassert ctypes.CDLL(None).syscall(57) >= 0, OSError('Error')",
    "shared memory": (
        "from multiprocessing.shared_memory import SharedMemory\n"
        "SharedMemory({place!r}.rpartition('/')[2], create=True, size=9)"
    ),
}
HARMLESS = {
    "standard library": (
        "import collections, datetime, decimal, fractions, functools, hashlib, heapq, itertools, "
        "json, math, random, re, statistics, string, time, typing, unittest"
    ),
    "time": "import time\ntime.sleep(0.01); time.perf_counter()",
    "threads": (
        "from concurrent.futures import ThreadPoolExecutor\n"
        "with ThreadPoolExecutor(4) as pool: assert list(pool.map(abs, [-1, 2])) == [1, 2]"
    ),
    "asyncio": "import asyncio\nassert asyncio.run(asyncio.sleep(0, 3)) == 3",
    "numpy": "import numpy as np\nassert (np.ones((64, 64)) @ np.ones((64, 64))).sum() == 64**3",
    "recursion": "def f(n): return n and f(n - 1)\nassert f(900) == 0",
    "printing": "print('debug')",
    "reading nothing": "import sys\nassert sys.stdin.read() == ''",
    "main": "if __name__ == '__main__': done = True",
    "dataclasses": "from dataclasses import dataclass\n@dataclass\nclass P:\n    x: int = 0\nP()",
}
ENDLESS = (
    "while True: pass",
    "import time\ntime.sleep(1e6)",
    "import re\nre.match('(a+)+$', 'a' * 40 + 'b')",
    "import threading\nthreading.Event().wait()",
    "import signal\nsignal.signal(signal.SIGXCPU, signal.SIG_IGN)\nwhile True: pass",
    "import itertools\nfor _ in itertools.count(): pass",
    "10 ** 10 ** 10",
    "import select, os\nr, w = os.pipe()\nselect.select([r], [], [])",
)
GREEDY = (
    "x = []\nwhile True: x.append(bytearray(2**20))",
    "x = bytearray(10**12)",
    "import threading, time\nwhile True: threading.Thread(target=time.sleep, args=(9,)).start()",
    "while True: print('x' * 10**6)",
    "import os\nwhile True: os.dup(1)",
    "def f(): return f()\nf()",
    "x = '9' * 10**8; int(x[:4000]) ** 10**6",
)
CHEATS = (
    "import os\nos._exit(0)",
    "import sys\nsys.exit(0)",
    "raise SystemExit",
    "raise KeyboardInterrupt",
    "import os\nos.write(3, b'\\n\\n')\nos.close(3)",
    "import ctypes\nctypes.string_at(0)",
    "import os\nos.abort()",
    "raise AssertionError('x' * 10**6)",
    "class E(BaseException):\n    def __str__(self): raise self\nraise E()",
    "del __builtins__['len']\nlen",
    "\x00",
    "x = (",
    "import faulthandler\nfaulthandler._sigsegv()",
)


def hostile_program(draw: random.Random, quick: bool = False) -> str:
    """One at random, with a random number in it; quick ones take no time limit to end."""
    kinds = [tuple(ESCAPES.values()), CHEATS] + ([] if quick else [ENDLESS, GREEDY])
    code = draw.choice(draw.choice(kinds))
    code = code.replace("{place!r}", repr(f"/tmp/escaped-{draw.randrange(10**9)}"))
    code = code.replace("{precious!r}", repr("/etc/hostname"))
    return f"number = {draw.randrange(10**9)}\n{code}"
