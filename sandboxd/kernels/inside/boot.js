const fs = require("fs");
const exactly = (size) => {
  const data = Buffer.alloc(size);
  for (let at = 0; at < size; ) {
    const got = fs.readSync(3, data, at, size - at, null);
    if (!got) process.reallyExit(0);
    at += got;
  }
  return data;
};
let line = "";
while (!line.endsWith("\n")) line += exactly(1).toString();
new Function("require", "process", exactly(Number(line)).toString())(require, process);
