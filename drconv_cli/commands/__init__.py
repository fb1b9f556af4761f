"""One file per command: options in, one library call, output out."""
