"""The nodes that the tests of this folder share."""

from tests.dist.node_fixtures import beam as beam
from tests.dist.node_fixtures import epmd_port as epmd_port
from tests.dist.node_fixtures import foo as foo
from tests.dist.node_fixtures import kept_beam as kept_beam
from tests.dist.node_fixtures import kept_peer as kept_peer
from tests.dist.node_fixtures import py as py
from tests.dist.node_fixtures import start as start
from tests.dist.node_fixtures import tidy as tidy
