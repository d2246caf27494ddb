from collections.abc import Callable

__version__: str

class MigrateError(Exception): ...

def run(
    command: str,
    pillar: str,
    arguments: str,
    ask: Callable[[str], str],
    tell: Callable[[str], object],
    interrupted: Callable[[], bool],
) -> str: ...
