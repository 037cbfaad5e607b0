/** Numbers and times as people read them; the same words as trafficctl's. */

function scaled(value, base, names) {
  let index = 0;
  while (Math.abs(value) >= (index ? base - 0.5 : base) && index < names.length - 1) {
    value /= base;
    index++;
  }
  let digits = index === 0 || Math.abs(value) >= 99.95 ? value.toFixed(0) : String(+value.toPrecision(3));
  if (index === 0 && Math.abs(value) < 10)
    digits = String(+value.toFixed(1));
  return `${digits} ${names[index]}`.trim();
}

export const octets = value => scaled(value, 1024, ["B", "KiB", "MiB", "GiB", "TiB", "PiB"]);
export const number = value => scaled(value, 1000, ["", "k", "M", "G", "T", "P"]);
export const rate = value => `${number(value)}/s`;
export const octetRate = value => `${octets(value)}/s`;
export const exact = value => value.toLocaleString("en-US");
export const many = (value, noun) => `${exact(value)} ${noun}${value === 1 ? "" : /[xs]$/.test(noun) ? "es" : "s"}`;

/** A duration in its two largest units: "3 m 12 s". */
export function span(seconds) {
  let left = Math.round(seconds);
  const parts = [];
  for (const [name, size] of [["d", 86400], ["h", 3600], ["m", 60], ["s", 1]]) {
    if (left >= size) {
      parts.push(`${Math.floor(left / size)} ${name}`);
      left %= size;
    } else if (parts.length)
      break;
  }
  return parts.slice(0, 2).join(" ") || "0 s";
}

const written = then => then.toLocaleString("sv"); // Swedes write "2026-01-31 16:04:15"

/** A moment, local: the time alone if it is today. */
export const when = seconds => {
  const [today] = written(new Date()).split(" ");
  return written(new Date(seconds * 1000)).replace(`${today} `, "");
};

export const until = seconds => seconds === null || seconds === undefined ? "forever" : when(seconds);
export const host = cidr => cidr.replace(/^([^:]*)\/32$|^(.*)\/128$/, "$1$2");
export const services = ports => (ports ?? ["all"]).join(", ");
export const phrase = name => name.replaceAll("_", " ");
