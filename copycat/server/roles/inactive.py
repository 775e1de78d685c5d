"""An inactive server belongs to no cluster yet: it neither votes nor campaigns nor follows.

At a first start every server waits here until it has exchanged ids with all others.
"""

from copycat.server.roles.role import Role


class Inactive(Role):
    """Refuses everything until the servers know each other."""

    title = "inactive"
