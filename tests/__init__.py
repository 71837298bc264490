"""The test suite; a package so that ``tests.support`` can be imported from every folder of it."""
