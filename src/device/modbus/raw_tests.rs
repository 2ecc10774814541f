//! Registers to values and back: known numbers, and every type in every order.

use super::*;
use crate::domain::quantity::Quantity;
use crate::domain::reading::Measurand;
use crate::protocol::modbus::Function;
use proptest::prelude::*;
use rust_decimal::dec;

fn point(quantity: Quantity, data: DataType, factor: Decimal) -> Point {
    Point {
        measurand: Measurand::Standard(quantity),
        function: Function::ReadHoldingRegisters,
        address: 0,
        data,
        word_order: Order::Big,
        byte_order: Order::Big,
        bits: None,
        unit: quantity.unit().symbol().to_owned(),
        factor,
        invalid: Vec::new(),
        encoding: Encoding::Plain,
        poll: true,
    }
}

fn energy(data: DataType, factor: Decimal) -> Point {
    point(Quantity::ActiveEnergyImport, data, factor)
}

#[test]
fn published_readings_come_out() {
    // Hiking DDS238, worked example of the maker's table: 1714 = 17.14 kWh, 0x0963 = 240.3 V
    assert_eq!(
        energy(DataType::U32, dec!(0.01)).value(&[0, 0x06B2]),
        Ok(Value::Decimal(dec!(17.14)))
    );
    let voltage = point(Quantity::VoltageL1, DataType::U16, dec!(0.1));
    assert_eq!(voltage.value(&[0x0963]), Ok(Value::Decimal(dec!(240.3))));
    // Eastron: 4366 3334 = 230.2 V, one bit above the float nearest to it
    let voltage = point(Quantity::VoltageL1, DataType::F32, dec!(1));
    assert_eq!(voltage.value(&[0x4366, 0x3334]), Ok(Value::F32(230.20001)));
    assert_eq!(voltage.value(&[0x4366, 0x3333]), Ok(Value::F32(230.2)));
    // low word first: 5124 45B7 = 5866.143 as published, of which the float prints one digit more
    let swapped = Point {
        word_order: Order::Little,
        ..energy(DataType::F32, dec!(1))
    };
    assert_eq!(swapped.value(&[0x5124, 0x45B7]), Ok(Value::Decimal(dec!(5866.1426))));
    // 65534 read as -2 var
    let reactive = point(Quantity::ReactivePowerTotal, DataType::I16, dec!(1));
    assert_eq!(reactive.value(&[0xFFFE]), Ok(Value::Decimal(dec!(-2))));
}

#[test]
fn a_register_that_comes_as_float_is_the_decimal_that_it_prints_as() {
    let bits = |value: f32| {
        let bits = value.to_bits();
        [
            u16::try_from(bits >> 16).unwrap(),
            u16::try_from(bits & 0xFFFF).unwrap(),
        ]
    };
    let kwh = energy(DataType::F32, dec!(1));
    assert_eq!(kwh.value(&bits(0.1)), Ok(Value::Decimal(dec!(0.1))));
    assert_eq!(kwh.value(&bits(1_234_567.9)), Ok(Value::Decimal(dec!(1234567.9))));
    assert_eq!(
        energy(DataType::F32, dec!(0.001)).value(&bits(1714.5)),
        Ok(Value::Decimal(dec!(1.7145)))
    );
    assert_eq!(kwh.value(&bits(1e-40)), Ok(Value::Decimal(dec!(0))));
    assert_eq!(kwh.value(&bits(3e38)), Err(RawError::TooLarge));
    for nothing in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY] {
        assert_eq!(kwh.value(&bits(nothing)), Err(RawError::NoValue));
    }
    // and an instantaneous one stays the float nearest to the scaled decimal
    let power = point(Quantity::ActivePowerTotal, DataType::F32, dec!(1000));
    assert_eq!(power.value(&bits(-0.2044)), Ok(Value::F32(-204.4)));
    assert_eq!(power.value(&bits(3e38)), Err(RawError::TooLarge));
}

#[test]
fn markers_say_that_there_is_no_value() {
    let marked = Point {
        invalid: vec![0x7FFF_FFFF],
        word_order: Order::Little,
        ..point(Quantity::ActivePowerTotal, DataType::I32, dec!(0.01))
    };
    assert_eq!(marked.value(&[0xFFFF, 0x7FFF]), Err(RawError::NoValue));
    assert_eq!(marked.value(&[0xFFFE, 0x7FFF]), Ok(Value::Decimal(dec!(21474836.46))));
    assert_eq!(marked.no_value(), Some(vec![0xFFFF, 0x7FFF]));
}

#[test]
fn bcd_is_decimal_or_an_error() {
    let bcd = energy(DataType::Bcd32, dec!(0.01));
    assert_eq!(bcd.value(&[0x0012, 0x3456]), Ok(Value::Decimal(dec!(1234.56))));
    assert_eq!(bcd.value(&[0x0012, 0x345A]), Err(RawError::NotBcd(0x0012_345A)));
    assert_eq!(
        bcd.registers(Value::Decimal(dec!(1000000)), &[]),
        Err(RawError::DoesNotFit("bcd32"))
    );
    assert_eq!(
        energy(DataType::Bcd64, dec!(1)).value(&[0x9999; 4]),
        Ok(Value::Decimal(dec!(9999999999999999)))
    );
}

#[test]
fn bit_fields_are_cut_out_and_laid_in() {
    let relay = Point {
        bits: Some(BitField { offset: 4, width: 2 }),
        ..point(Quantity::RelayState, DataType::U16, dec!(1))
    };
    assert_eq!(relay.value(&[0b0010_0000]), Ok(Value::Decimal(dec!(2))));
    assert_eq!(
        relay.registers(Value::Decimal(dec!(1)), &[0b1111_1111]),
        Ok(vec![0b1101_1111])
    );
    assert_eq!(
        relay.registers(Value::Decimal(dec!(4)), &[0]),
        Err(RawError::DoesNotFit("u16"))
    );
    let all = Point {
        bits: Some(BitField { offset: 0, width: 64 }),
        ..point(Quantity::StatusWord, DataType::U64, dec!(1))
    };
    assert_eq!(all.value(&[0xFFFF; 4]), Ok(Value::Decimal(u64::MAX.into())));
}

#[test]
fn a_four_quadrant_power_factor_is_unfolded() {
    let factor = Point {
        encoding: Encoding::FourQuadrant,
        ..point(Quantity::PowerFactorTotal, DataType::I16, dec!(0.001))
    };
    let of = |raw: i16| factor.value(&[raw.cast_unsigned()]).unwrap();
    assert_eq!(of(950), Value::Decimal(dec!(0.950)));
    assert_eq!(of(1050), Value::Decimal(dec!(0.950)));
    assert_eq!(of(-1050), Value::Decimal(dec!(-0.950)));
    assert_eq!(of(-950), Value::Decimal(dec!(-0.950)));
}

#[test]
fn the_wrong_number_of_registers_is_an_error() {
    assert_eq!(energy(DataType::U32, dec!(1)).value(&[1]), Err(RawError::TooFew(1)));
    assert_eq!(energy(DataType::U16, dec!(1)).value(&[]), Err(RawError::TooFew(0)));
}

fn any_point() -> impl Strategy<Value = Point> {
    let order = || prop_oneof![Just(Order::Big), Just(Order::Little)];
    let factor = prop_oneof![
        Just(dec!(1)),
        Just(dec!(0.1)),
        Just(dec!(0.001)),
        Just(dec!(1000)),
        Just(dec!(0.06))
    ];
    let data = prop::sample::select(DataType::ALL);
    let quantity = prop::sample::select(&[Quantity::ActiveEnergyImport, Quantity::ActivePowerTotal][..]);
    (quantity, data, order(), order(), factor).prop_map(|(quantity, data, word_order, byte_order, factor)| Point {
        word_order,
        byte_order,
        ..point(quantity, data, factor)
    })
}

proptest! {
    #[test]
    fn what_is_decoded_is_encoded_again(point in any_point(), registers in prop::array::uniform4(any::<u16>())) {
        let registers = &registers[..usize::from(point.data.count())];
        let Ok(value) = point.value(registers) else { return Ok(()) };
        if point.data == DataType::Bit {
            return Ok(());
        }
        let again = point.registers(value, registers);
        if point.data.is_float() {
            // by way of decimals the last bits may differ, the value must not
            let (Ok(again), Ok(tolerance)) = (again, point.value(registers)) else { return Ok(()) };
            let (a, b) = (point.value(&again).map(approximately), approximately(tolerance));
            let near = a.is_ok_and(|a| (a - b).abs() <= b.abs() * 1e-6 + 1e-27);
            prop_assert!(near, "{value:?}");
        } else {
            prop_assert_eq!(again, Ok(registers.to_vec()));
        }
    }

    #[test]
    fn integers_scale_exactly(raw in any::<u64>()) {
        let words = raw.to_be_bytes();
        let registers: Vec<u16> = words.as_chunks::<2>().0.iter().map(|pair| u16::from_be_bytes(*pair)).collect();
        let Ok(Value::Decimal(value)) = energy(DataType::U64, dec!(0.001)).value(&registers) else {
            return Err(TestCaseError::fail("no decimal"));
        };
        prop_assert_eq!(value, Decimal::from(raw) / dec!(1000));
        prop_assert_eq!(value.to_string(), format!("{}.{:03}", raw / 1000, raw % 1000));
    }
}

fn approximately(value: Value) -> f64 {
    match value {
        Value::Decimal(value) => value.to_f64().unwrap(),
        Value::F32(value) => value.into(),
        Value::F64(value) => value,
    }
}
