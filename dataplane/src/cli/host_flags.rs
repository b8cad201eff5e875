//! Flags about the host's kernel, the process on it, and its logs.

use clap::ArgAction::Set;

use super::flag_values::{BOOL, DURATION, NUMBER, VerbosityPatterns, go_bool};
use crate::config::{GoDuration, Quantity};

/// Connection tracking.
#[derive(Clone, Debug, clap::Args)]
pub struct ConntrackFlags {
    /// Entries for each CPU; 0 leaves the limit alone
    #[arg(long, value_name = NUMBER, default_value = "32768")]
    pub conntrack_max_per_core: i32,
    /// Least number of entries
    #[arg(long, value_name = NUMBER, default_value = "131072")]
    pub conntrack_min: i32,
    /// Life of an idle established TCP connection; 0 leaves it alone
    #[arg(long, value_name = DURATION, default_value = "24h0m0s")]
    pub conntrack_tcp_timeout_established: GoDuration,
    /// Life of an entry in CLOSE_WAIT; 0 leaves it alone
    #[arg(long, value_name = DURATION, default_value = "1h0m0s")]
    pub conntrack_tcp_timeout_close_wait: GoDuration,
    /// Take out-of-window TCP segments for valid
    #[arg(long, value_name = BOOL, default_value = "false", action = Set, value_parser = go_bool)]
    pub conntrack_tcp_be_liberal: bool,
    /// Life of an unreplied UDP entry; 0 leaves it alone
    #[arg(long, value_name = DURATION, default_value = "0s")]
    pub conntrack_udp_timeout: GoDuration,
    /// Life of an assured UDP entry; 0 leaves it alone
    #[arg(long, value_name = DURATION, default_value = "0s")]
    pub conntrack_udp_timeout_stream: GoDuration,
}

/// The process and the machine.
#[derive(Clone, Debug, clap::Args)]
pub struct HostFlags {
    /// Score for the kernel's out-of-memory killer, -1000 to 1000
    #[arg(long, value_name = NUMBER, default_value = "-999")]
    pub oom_score_adj: i32,
    /// File with the boot id
    #[arg(long, value_name = "FILES", default_value = "/proc/sys/kernel/random/boot_id")]
    pub boot_id_file: String,
    /// Files with the machine id
    #[arg(long, value_name = "FILES", default_value = "/etc/machine-id,/var/lib/dbus/machine-id")]
    pub machine_id_file: String,
}

/// Logs. They also count with --config, and win over the file.
#[derive(Clone, Debug, clap::Args)]
pub struct LogFlags {
    /// Format: text or json
    #[arg(long, value_name = "FORMAT", default_value = "text")]
    pub logging_format: String,
    /// Verbosity
    #[arg(short = 'v', long = "v", value_name = NUMBER, default_value = "0")]
    pub verbosity: u32,
    /// Verbosity of single files, text format only
    #[arg(long, value_name = "PATTERN=N,...", default_value = "")]
    pub vmodule: VerbosityPatterns,
    /// Longest time that log lines wait in a buffer
    #[arg(long, value_name = DURATION, default_value = "5s")]
    pub log_flush_frequency: GoDuration,
    /// JSON format: errors to stderr, the rest to stdout
    #[arg(long, value_name = BOOL, default_value = "false", action = Set, value_parser = go_bool)]
    pub log_json_split_stream: bool,
    /// JSON format: bytes of info lines that may wait in a buffer
    #[arg(long, value_name = "QUANTITY", default_value = "0")]
    pub log_json_info_buffer_size: Quantity,
    /// Text format: errors to stderr, the rest to stdout
    #[arg(long, value_name = BOOL, default_value = "false", action = Set, value_parser = go_bool)]
    pub log_text_split_stream: bool,
    /// Text format: bytes of info lines that may wait in a buffer
    #[arg(long, value_name = "QUANTITY", default_value = "0")]
    pub log_text_info_buffer_size: Quantity,
}
