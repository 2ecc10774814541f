#!/usr/bin/env python3
"""Makes the recorded exchange of M-Bus meter models, independently of the program.

The records are those of a real meter's telegram (DIF and VIF as the maker has them) with self-chosen values; fields,
header, checksum and the telegrams of a readout are written here, from EN 13757 alone, and the first `[[exchange]]` of
the model file is rewritten. What the values mean stands beside them, in canonical units. Without arguments all models
are made anew.

    python3 tests/peers/record_mbus.py [MODEL…]
"""

import re
import sys
from pathlib import Path

FOLDER = Path(__file__).parents[2] / "config" / "meter-models" / "mbus"
NOTE = "the record layout of a real meter with values chosen by tests/peers/record_mbus.py"
NUMBER = "12345678"
MORE = "more"

# by model: manufacturer, version, medium, status, the maker's own data, and the records: DIF and VIF, the number in the
# field (or a date, or hex), and the quantity with its value
MODELS = {
    "generic_electricity": ("PPE", 1, 2, 0x00, "", [
        ("0E03", 123456789, "active_energy_import", "123456.789"),
        ("8E1003", 100000000, "active_energy_import_t1", "100000"),
        ("8E2003", 23456789, "active_energy_import_t2", "23456.789"), ("0E833C", 4321, "active_energy_export", "4.321"),
        ("042B", -2300, "active_power_total", "-2300"), ("02FDC8FC01", 2304, "voltage_l1", "230.4"),
        ("02FDC8FC02", 2311, "voltage_l2", "231.1"), ("02FDC8FC03", 2298, "voltage_l3", "229.8"),
        ("03FDD9FC01", 3271, "current_l1", "3.271"), ("03FDD9FC02", 3300, "current_l2", "3.3"),
        ("03FDD9FC03", 3412, "current_l3", "3.412"), ("02FB2D", 5001, "frequency", "50.01"), ("046D", (2026, 11, 21, 14, 5)),
        ("", 0, "status_word", "0"),
    ]),
    "generic_gas": ("PPG", 1, 3, 0x00, "", [
        ("0C13", 7654321, "gas_volume", "7654.321"), ("0B3B", 1234, "flow_rate", "1.234"),
        ("0266", 121, "temperature", "12.1"), ("0269", 102, "pressure", "1.02"), ("046D", (2026, 11, 21, 14, 5)),
        ("", 0, "status_word", "0"),
    ]),
    "generic_heat": ("PPH", 1, 4, 0x00, "", [
        ("0C06", 123456, "heat_energy", "123456"), ("0C13", 1234567, "volume_total", "1234.567"),
        ("0B2D", 123, "thermal_power", "12300"), ("0B3B", 456, "flow_rate", "0.456"),
        ("0A5A", 653, "temperature_flow", "65.3"), ("0A5E", 451, "temperature_return", "45.1"),
        ("0B61", 2020, "temperature_difference", "20.2"), ("0422", 26280, "operating_hours", "26280"),
        ("02FD17", 0, "error_flags", "0"), ("046D", (2026, 11, 21, 14, 5)), ("426C", (2025, 12, 31)),
        ("4C06", 100000, "heat_energy_settlement", "100000"), ("4C13", 1000000, "volume_settlement", "1000"),
        ("", 0, "status_word", "0"),
    ]),
    "generic_water": ("PPW", 1, 7, 0x00, "", [
        ("0C13", 1234567, "volume_total", "1234.567"), ("0B3B", -456, "flow_rate", "-0.456"),
        ("0266", 183, "temperature", "18.3"), ("02FD17", 0, "error_flags", "0"), ("046D", (2026, 11, 21, 14, 5)),
        ("426C", (2025, 12, 31)), ("4C13", 1000000, "volume_settlement", "1000"), ("", 0, "status_word", "0"),
    ]),
    "gmc_emmod206": ("GMC", 230, 2, 0x00, "", [
        ("8240FD48", 2304, "voltage_l1", "230.4"), ("828040FD48", 2311, "voltage_l2", "231.1"),
        ("82C040FD48", 2298, "voltage_l3", "229.8"), ("8240FD59", 957, "current_l1", "0.957"),
        ("828040FD59", 1055, "current_l2", "1.055"), ("82C040FD59", 1150, "current_l3", "1.15"),
        ("82402B", 224, "active_power_total", "224"), ("82402B", -202, "power_second", "-202"),
        ("841004", 10388, "active_energy_import_t1", "103.88"), ("842004", 15000, "active_energy_import_t2", "150"),
        ("", 0, "status_word", "0"),
    ]),
    "itron_cf51": ("ACW", 10, 13, 0x10, "0F0320", [
        ("0C78", 11155185), ("0406", 54321, "heat_energy", "54321"), ("0C14", 765432, "volume_total", "7654.32"),
        ("3B2D", 999999, "thermal_power", "none"), ("0B3B", 0, "flow_rate", "0"), ("0A5A", 712, "temperature_flow", "71.2"),
        ("3A5E", 9999, "temperature_return", "none"), ("3B61", 999999, "temperature_difference", "none"),
        ("046D", (2026, 11, 21, 14, 5)), ("0227", 104, "operating_hours", "2496"), ("09FD0E", 11), ("09FD0F", 26),
        ("8CC00016", 321, "input_1", "321"), ("8C804014", 123, "input_2", "1.23"), ("04863C", 77, "cooling_energy", "77"),
        ("", 0, "status_word", "16"),
    ]),
    "itron_cyble_gas": ("ACW", 20, 3, 0x00, "0F00021F", [
        ("0C78", 10020387), ("0D7C084449202E74737563", "0A204553414850594C4F50"), ("046D", (2026, 11, 21, 14, 5)),
        ("027C09656D6974202E746162", 4050, "battery_days", "4050"), ("0414", 654321, "gas_volume", "6543.21"),
        ("04947F", 0, "volume_backflow", "0"), ("4414", 600000, "volume_settlement", "6000"), ("", 0, "status_word", "0"),
    ]),
    "itron_cyble_water": ("ACW", 20, 7, 0x30, "0F10011F", [
        ("0C78", 12000071), ("0D7C084449202E74737563", "0A204553414850594C4F50"), ("046D", (2026, 11, 21, 14, 5)),
        ("027C09656D6974202E746162", 4338, "battery_days", "4338"), ("0414", 123456, "volume_total", "1234.56"),
        ("04947F", 20, "volume_backflow", "0.2"), ("4414", 120000, "volume_settlement", "1200"),
        ("", 0, "status_word", "48"),
    ]),
    "kamstrup_382": ("KAM", 1, 2, 0x00, "0F00000000000000000000000000000010", [
        ("0406", 12345, "active_energy_import", "12345"), ("0422", 8760, "operating_hours", "8760"),
        ("042B", 2345, "active_power_total", "2345"), ("142B", 7000, "max_demand_active_import", "7000"),
        ("845006", 2345, "energy_subunit_1_t1", "2345"), ("846006", 1000, "energy_subunit_1_t2", "1000"),
        ("", 0, "status_word", "0"),
    ]),
    "landisgyr_ultraheat_t230": ("LUG", 7, 4, 0x10, "0F0907006601", [
        ("0974", 4), ("0970", 8), ("0C06", 12345, "heat_energy", "12345"), ("0C14", 765432, "volume_total", "7654.32"),
        ("0B2D", 77, "thermal_power", "7700"), ("0B3B", 812, "flow_rate", "0.812"),
        ("0B5A", 705, "temperature_flow", "70.5"), ("0B5E", 403, "temperature_return", "40.3"),
        ("0B62", 302, "temperature_difference", "30.2"), ("0C78", 66660205), ("891071", 7), ("3C22", 3769),
        ("0C22", 37690, "on_hours", "37690"), ("0C26", 30000, "operating_hours", "30000"),
        ("9B102D", 123, "power_max", "12.3"), ("4C06", 10000, "heat_energy_settlement", "10000"),
        ("4C14", 700000, "volume_settlement", "7000"), ("848F0F6D", "0000E1F1"), ("046D", (2026, 11, 21, 14, 5)),
        ("", 0, "status_word", "16"),
    ]),
    "minol_minocal_c2": ("ZRM", 129, 4, 0x27, "", [
        ("0406", 9123, "heat_energy", "9123"), ("02FD17", 0, "error_flags", "0"), ("84046D", (2026, 1, 1, 0, 0)),
        ("840406", 5000, "heat_energy_settlement", "5000"), ("840506", 0), ("0413", 456789, "volume_total", "456.789"),
        ("043B", 345, "flow_rate", "0.345"), ("543B", 900), ("546D", (2026, 2, 1, 8, 30)),
        ("042D", 55, "thermal_power", "5500"), ("94012D", 120), ("94016D", (2026, 2, 1, 8, 30)),
        ("0259", 6012, "temperature_flow", "60.12"), ("025D", 4027, "temperature_return", "40.27"),
        ("046D", (2026, 11, 21, 14, 5)), ("8280016C", (2026, 11, 1)), ("84800106", 9000), ("C280016C", (2026, 10, 1)),
        ("C4800106", 8500), ("8281016C", (2026, 9, 1)), ("84810106", 8000), ("C281016C", (2026, 8, 1)), ("C4810106", 7500),
        ("8282016C", (2026, 7, 1)), ("84820106", 7000), ("C282016C", (2026, 6, 1)), ("C4820106", 6500),
        ("8283016C", (2026, 5, 1)), ("84830106", 6000), ("C283016C", (2026, 4, 1)), ("C4830106", 5500),
        ("", 0, "status_word", "39"),
    ]),
    "nzr_dhz": ("NZR", 1, 2, 0x00, "0F0E", [
        ("0403", 1234567, "active_energy_total", "1234.567"), ("04837F", 1234567, "energy_since_reset", "1234.567"),
        ("02FD48", 2372, "voltage_l1", "237.2"), ("02FD5B", 57, "current_l1", "5.7"),
        ("022B", 1340, "active_power_total", "1340"), ("0C78", 30100608), ("", 0, "status_word", "0"),
    ]),
    "ram_modularis": ("RAM", 3, 7, 0x00, "0F010000", [
        ("0413", 91234, "volume_total", "91.234"), ("046D", (2026, 11, 21, 14, 5)), ("426C", (2026, 9, 28)),
        ("4413", 84000, "volume_settlement", "84"), ("42EC7E", (2027, 9, 28)), ("0C78", 25776), ("82016C", (2026, 10, 31)),
        ("840113", 90000), ("C2016C", (2026, 5, 31)), ("C40113", 50000), ("82026C", (2026, 6, 30)), ("840213", 60000),
        ("C2026C", (2026, 7, 31)), ("C40213", 70000), ("82036C", (2026, 8, 31)), ("840313", 80000),
        ("C2036C", (2026, 9, 30)), ("C40313", 85000), ("", 0, "status_word", "0"),
    ]),
    "sensus_pollucom_e": ("SEN", 8, 4, 0x00, "", [
        ("0C06", 19019, "heat_energy", "19019"), ("0C13", 1621119, "volume_total", "1621.119"),
        ("0C3B", 250, "flow_rate", "0.25"), ("0C2B", 3400, "thermal_power", "3400"),
        ("025A", 359, "temperature_flow", "35.9"), ("025E", 233, "temperature_return", "23.3"),
        ("0360", 12614, "temperature_difference", "12.614"), ("0C78", 63940045), ("0CFD10", 63940045), (MORE, 0),
        ("426C", (2025, 12, 31)), ("4C06", 15000, "heat_energy_settlement", "15000"), ("", 0, "status_word", "0"),
    ]),
}

DIGITS = {9: 1, 10: 2, 11: 3, 12: 4, 14: 6}
BINARY = {1: 1, 2: 2, 3: 3, 4: 4, 6: 6, 7: 8}


def date(year, month, day):
    year -= 2000
    return bytes([day | (year & 7) << 5, month | (year & 0x78) << 1])


def field(head, value):
    code = bytes.fromhex(head)[0] & 15
    if isinstance(value, str):
        return bytes.fromhex(value)
    if isinstance(value, tuple):
        clock = bytes([value[4], value[3]]) if len(value) == 5 else b""
        return clock + date(*value[:3])
    if code in BINARY:
        return value.to_bytes(BINARY[code], "little", signed=True)
    digits = str(abs(value)).rjust(2 * DIGITS[code], "0")
    return bytes.fromhex("F" + digits[1:] if value < 0 else digits)[::-1]


def manufacturer(letters):
    code = 0
    for letter in letters:
        code = code << 5 | ord(letter) - 64
    return code.to_bytes(2, "little")


def telegram(header, data):
    body = bytes([0x08, 0x01, 0x72]) + header + data
    return bytes([0x68, len(body), len(body), 0x68]) + body + bytes([sum(body) & 255, 0x16])


def exchange(maker, version, medium, status, own, records):
    telegrams, expect = [b""], []
    for head, value, *meaning in records:
        if head == MORE:
            telegrams.append(b"")
            continue
        if head:
            telegrams[-1] += bytes.fromhex(head) + field(head, value)
        if meaning:
            name, number = meaning
            expect.append(f'{name} = "{number}"')
    frames = b""
    for index, data in enumerate(telegrams):
        header = bytes.fromhex(NUMBER)[::-1] + manufacturer(maker) + bytes([version, medium, 0x2A + index, status, 0, 0])
        last = index == len(telegrams) - 1
        frames += telegram(header, data + (bytes.fromhex(own) if last else b"\x1f"))
    return "\n".join(["[[exchange]]", f'note = "{NOTE}"', "frames = [", '    ["1040014116", "E5"],',
                      f'    ["107B017C16", "{frames.hex().upper()}"],', "]", f"expect = {{ {', '.join(expect)} }}", ""])


def main(names):
    for name in names or MODELS:
        path = FOLDER / f"{name}.toml"
        text = path.read_text()
        made = re.sub(r"\[\[exchange\]\].*?(?=\n\[\[exchange\]\]|\Z)", lambda _: exchange(*MODELS[name]), text, count=1, flags=re.S)
        path.write_text(made)


if __name__ == "__main__":
    main(sys.argv[1:])
