"""NNI's manager kept to the loopback: by itself it listens on every interface, unprotected."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

from nas_ext.files import write_text

__all__ = ["on_loopback"]

_OPTIONS = "NODE_OPTIONS"

# NNI gives its servers a port and no address; what names one already stays as it is.
_SCRIPT = """\
'use strict';
const net = require('net');
const listen = net.Server.prototype.listen;
net.Server.prototype.listen = function (...given) {
  const first = given[0];
  if (typeof first === 'number' || (typeof first === 'string' && /^[0-9]+$/.test(first))) {
    if (typeof given[1] !== 'string') {
      given.splice(1, given[1] === undefined || given[1] === null ? 1 : 0, '127.0.0.1');
    }
  } else if (first && typeof first === 'object' && 'port' in first && !first.host) {
    given[0] = { ...first, host: '127.0.0.1' };
  }
  return listen.apply(this, given);
};
"""


@contextmanager
def on_loopback() -> Iterator[None]:
    """Let managers of NNI that are started inside listen on 127.0.0.1 alone.

    NNI 3.0 has no setting for that: its manager and web page are open to whoever reaches the
    machine, without a password, and with them the right to run commands. Here Node, on which
    both run, is told by NODE_OPTIONS to load a few lines first that name the address; they stay
    in force for managers that are running when this ends. Start and stop the experiment inside.
    Trials on other machines cannot reach such a manager.
    """
    before = os.environ.get(_OPTIONS)
    with TemporaryDirectory(prefix="nas-ext-nni-") as folder:
        script = Path(folder) / "loopback.js"
        write_text(script, _SCRIPT)
        quoted = str(script).replace("\\", "\\\\").replace('"', '\\"')
        option = f'--require="{quoted}"'
        os.environ[_OPTIONS] = option if before is None else f"{before} {option}"
        try:
            yield
        finally:
            if before is None:
                del os.environ[_OPTIONS]
            else:
                os.environ[_OPTIONS] = before
