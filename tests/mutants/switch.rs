
/// Whether this mistake is to be made: that which `BELLHOP_FAULTS_PLANT` names.
#[must_use]
pub fn planted(name: &str) -> bool {
    static PLANT: std::sync::OnceLock<String> = std::sync::OnceLock::new();
    PLANT.get_or_init(|| std::env::var("BELLHOP_FAULTS_PLANT").unwrap_or_default()) == name
}
