import subprocess
import sys


def test_serving_imports_no_torch():
    code = (
        "import sys; from models import artifact, backends; backends.load(artifact.locate('reference'));"
        "import streaming.bootstrap, streaming.decode_child; assert 'torch' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)


def test_the_help_loads_nothing_heavy():
    code = (
        "import sys; from click.testing import CliRunner; from streaming.cli import group;"
        "result = CliRunner().invoke(group, ['--help']); assert result.exit_code == 0, result.output;"
        "heavy = {'faust', 'onnxruntime', 'torch', 'numpy', 'duckdb'} & set(sys.modules); assert not heavy, heavy"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)
