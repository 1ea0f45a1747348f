"""numpy and pandas: threads of the linear algebra, memory maps, files."""

import numpy
import pandas

numbers = numpy.arange(250_000, dtype=float).reshape(500, 500)
print(int((numbers @ numbers.T).trace() % 1_000_003), numpy.linalg.matrix_rank(numbers))
numpy.save("n.npy", numbers)
mapped = numpy.load("n.npy", mmap_mode="r")
print(float(mapped[499].sum()))
table = pandas.DataFrame({"k": ["a", "b"] * 500, "v": range(1000)})
table.to_csv("t.csv", index=False)
print(pandas.read_csv("t.csv").groupby("k").v.agg(["sum", "mean"]).to_dict())
