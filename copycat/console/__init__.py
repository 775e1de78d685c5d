"""The shell: everything that is typed and shown in a terminal."""
