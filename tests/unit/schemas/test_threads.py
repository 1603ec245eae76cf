"""Many threads may read events at once, from the first one on."""

from __future__ import annotations

import subprocess
import sys

# Each child begins with what the import has left, as a process does that has just started.
SCRIPT = """
import os, sys, threading
sys.setswitchinterval(1e-6)
from schemas import envelope, events
from services.coordinator import records, state
gate = threading.Barrier(12)
status = b'{"job_id":"j","kind":"transcode","service":"transcoder","subject":"s","state":"queued","request_type":"UploadReceived",'
status += b'"request":{},"created_ms":1,"updated_ms":1,"outputs":[{"role":"r","bucket":"b","key":"k"}],"outstanding":[[1,1,1]]}'
finished = b'{"job_id":"j","stage":1,"number":1,"attempt":1,"worker":"w","outputs":[{"role":"r","bucket":"b","key":"k"}]}'
read = []
def work(n):
    gate.wait()
    for kind, data in ((events.JobStatus, status), (events.TaskFinished, finished), (events.Position, b'{"next":1}')):
        read.append(envelope.decode(data, kind))
for _ in range(5):
    child = os.fork()
    if not child:
        threads = [threading.Thread(target=work, args=(n,)) for n in range(12)]
        [t.start() for t in threads]
        [t.join() for t in threads]
        print(len(read), flush=True)
        os._exit(0)
    if ended := os.waitpid(child, 0)[1]:
        sys.exit(f"a child ended with {ended}")
"""


def test_threads_that_begin_together_all_read() -> None:
    done = subprocess.run([sys.executable, "-c", SCRIPT], capture_output=True, text=True, timeout=60, check=False)
    assert (done.returncode, done.stdout.split()) == (0, ["36"] * 5), done.stderr
