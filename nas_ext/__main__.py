"""Let `python -m nas_ext` be the command line."""

from nas_ext.cli import main

main()
