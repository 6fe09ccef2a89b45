"""``python -m anychannel``: the same as the ``anychannel`` program."""

from anychannel.cli import app

if __name__ == "__main__":
    app()
