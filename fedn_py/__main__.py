"""``python -m fedn_py`` is ``fedn-py``."""

from fedn_py.cli.main import main

if __name__ == "__main__":
    main()
