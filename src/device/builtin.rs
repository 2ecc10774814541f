//! The model files that are part of the binary. A test compares the list with the folder.

use super::model::Folder;

macro_rules! models {
    ($($folder:ident $path:literal { $($name:literal)* })*) => {
        &[$($((
            Folder::$folder,
            $name,
            include_str!(concat!("../../config/meter-models/", $path, "/", $name, ".toml")),
        ),)*)*]
    };
}

/// Folder, name and text of each built-in model.
pub(super) const MODELS: &[(Folder, &str, &str)] = models! {
    Modbus "modbus" {
        "abb_b23_b24"
        "acrel_adl400_float"
        "acrel_dtsd1352"
        "carlo_gavazzi_em24"
        "chint_ddsu666"
        "chint_dtsu666"
        "ddm18sd"
        "eastron_sdm120"
        "eastron_sdm230"
        "eastron_sdm630"
        "eastron_sdm72d_v2"
        "hiking_dds238_zns"
        "inepro_pro380"
        "janitza_b23"
        "orno_we504"
        "orno_we516"
        "peacefair_pzem014"
        "polyphase_virtual"
        "schneider_pm5110"
        "siemens_pac1020"
    }
    Dlt645 "dlt645" {
        "dlt645_1997_single_phase"
        "dlt645_1997_three_phase"
        "dlt645_2007_prepaid"
        "dlt645_2007_single_phase"
        "dlt645_2007_three_phase"
        "dlt645_2007_three_phase_ct"
    }
    Cjt188 "cjt188" {
        "jicheng_heat"
        "jingwei_fe_heat_cooling"
        "jy_heat"
        "kingda_bc95"
        "sdqr_valve_water"
        "standard_cold_water_2004"
        "standard_cold_water_2018"
        "standard_gas_2004"
        "standard_heat_2004"
        "standard_hot_water_2004"
        "standard_valve_water_2004"
        "yitongda_heat_cooling"
    }
    Mbus "mbus" {
        "generic_electricity"
        "generic_gas"
        "generic_heat"
        "generic_water"
        "gmc_emmod206"
        "itron_cf51"
        "itron_cyble_gas"
        "itron_cyble_water"
        "kamstrup_382"
        "landisgyr_ultraheat_t230"
        "minol_minocal_c2"
        "nzr_dhz"
        "ram_modularis"
        "sensus_pollucom_e"
    }
    Gdw376 "gdw376" {
        "gdw376_single_phase"
        "gdw376_three_phase"
    }
    Dlt698 "dlt698" {
        "dlt698_single_phase"
        "dlt698_three_phase"
    }
};
