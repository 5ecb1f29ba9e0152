"""All cases, table by table."""

from tests.support.inputs.containers import ARCHIVES, FOLDERS
from tests.support.inputs.formats import FORMATS
from tests.support.inputs.labels import LABELS
from tests.support.inputs.moved import MOVED
from tests.support.inputs.odd_files import ODD, REFUSED
from tests.support.inputs.second_runs import AGAIN
from tests.support.inputs.tables import TABLES

GROUPS = (FORMATS, FOLDERS, ARCHIVES, TABLES, LABELS, ODD, REFUSED, AGAIN, MOVED)
