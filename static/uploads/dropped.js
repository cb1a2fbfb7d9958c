// The files that were dropped, those in dropped folders included, but none that begin with a dot.

export async function dropped(transfer) {
  const entries = [...transfer.items].map(item => item.webkitGetAsEntry?.()).filter(Boolean);
  if (!entries.length) return [...transfer.files];
  const found = await Promise.all(entries.map(filesOf));
  return found.flat().filter(file => !file.name.startsWith('.'));
}

async function filesOf(entry) {
  if (entry.isFile) return [await new Promise((taken, failed) => entry.file(taken, failed))];
  const reader = entry.createReader(), found = [];
  for (;;) { // a reader gives a hundred at a time
    const some = await new Promise((taken, failed) => reader.readEntries(taken, failed));
    if (!some.length) return found.flat();
    found.push(...await Promise.all(some.map(filesOf)));
  }
}
