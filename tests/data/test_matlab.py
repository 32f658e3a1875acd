"""MATLAB files: tables as SciPy wrote them, and nothing else."""

import numpy as np
import pytest
from scipy import io  # comes with JAX; writes MATLAB files as others do

from hitpro_jax.data import matlab


def test_matlab_tables_are_read_as_scipy_wrote_them_and_every_cut_is_noticed(tmp_path):
    path = str(tmp_path / "t.mat")
    for dtype in ("u1", "i2", "u2", "i4", "f4", "f8", "i8"):
        for packed in (False, True):
            table = np.arange(12, dtype=dtype).reshape(3, 4)
            io.savemat(path, {"x": table}, do_compression=packed)
            np.testing.assert_array_equal(matlab.read_table(path), table)
    data = (tmp_path / "t.mat").read_bytes()
    for length in range(0, len(data), 3):
        (tmp_path / "t.mat").write_bytes(data[:length])
        with pytest.raises(ValueError, match=r"t.mat holds no table"):
            matlab.read_table(path)
    io.savemat(path, {"x": table, "y": table})
    with pytest.raises(ValueError, match="2 variables instead of one"):
        matlab.read_table(path)
