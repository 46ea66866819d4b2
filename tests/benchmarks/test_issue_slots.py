"""Issue slots for each tensor cycle, from listings of machine code."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.interpreter import without_interpreter

pytest.importorskip("triton", reason="triton is not installed; it brings the compiler")
from benchmarks.tune.issue_slots import Loop, loops_of

ROOT = Path(__file__).parents[2]
LISTING = """
        /*0010*/                   HGMMA.64x16x16.F32.BF16 R24, gdesc[UR8], RZ, !UPT ;   /* 0x0 */
        /*0020*/                   FADD R1, R2, R3 ;
        /*0030*/                   HGMMA.64x64x16.F32.BF16 R24, gdesc[UR8], RZ, !UPT ;
        /*0040*/                   HGMMA.64x32x16.F32.BF16 R56, R80, gdesc[UR8].tnspB, R56, gsb0 ;
        /*0050*/              @!P0 BRA 0x70 ;
        /*0060*/               @P0 BRA 0x20 ;
        /*0070*/                   FADD R1, R2, R3 ;
        /*0080*/               @P1 BRA 0x70 ;
        /*0090*/               @P1 BRA 0x10 ;
        /*00a0*/                   BRA 0xa0 ;
"""


def test_the_innermost_loop_with_tensor_work_counts_all_its_instructions() -> None:
    """Not the branch forward, nor the loop without tensor work, nor the one around both, nor the code's last line."""
    assert loops_of(LISTING) == [Loop(5, 48.0)]
    assert Loop(5, 48.0).slots == pytest.approx(5 / 48)
    assert loops_of(LISTING.replace("HGMMA", "FADD")) == []


@pytest.mark.slow
def test_the_forward_of_attention_issues_no_more_than_it_did(tmp_path: Path) -> None:
    """4096 queries of 40 columns. Lower this when instructions are saved; 1.17 is what the kernel is to reach."""
    environment = without_interpreter() | {"TRITON_CACHE_DIR": str(tmp_path)}
    command = [sys.executable, "-m", "benchmarks.tune.issue_slots", "attention_fwd_kernel bf16 D40 "]
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    (slots,) = re.findall(r": (\d\.\d\d) issue slots", done.stdout)
    assert float(slots) <= 1.75
