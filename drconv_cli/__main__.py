"""`python -m drconv_cli`."""

from drconv_cli.main import main

main()
