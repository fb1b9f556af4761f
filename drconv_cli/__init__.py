"""The command `drconv`: options in, one library call, rendered output. Importing it does not import torch."""
