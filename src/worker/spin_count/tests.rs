//! Tests of the spin count.

use super::*;

fn costs(wake_up_ns: u64, pause_ns: u64) -> WaitCosts {
    WaitCosts {
        wake_up: Duration::from_nanos(wake_up_ns),
        pauses: Duration::from_nanos(pause_ns) * PAUSES,
    }
}

const TWO: Waits = Waits {
    n_threads: 2,
    is_on_gpu: false,
    quota: None,
};

fn count(costs: WaitCosts) -> u128 {
    let measured = Spin::measured(|| Some(costs), TWO);
    let Spin::Measured { count, .. } = measured else {
        panic!("{measured:?}")
    };
    count
}

#[test]
fn threads_spin_for_ten_wake_ups() {
    assert_eq!(count(costs(7000, 28)), 2500);
    assert_eq!(count(costs(5000, 10)), 5000);
}

#[test]
fn the_count_is_bounded() {
    let measured = [(100, 40), (2_000_000, 28), (5000, 0)];
    let counts = measured.map(|(wake_up, pause)| count(costs(wake_up, pause)));
    assert_eq!(counts, [1000, 10_000, 1000]);
}

#[test]
fn without_a_measurement_the_spin_is_short() {
    assert!(matches!(
        Spin::measured(|| None, TWO),
        Spin::Measured { count: 1000, .. }
    ));
}

#[test]
fn threads_whose_number_is_fixed_spin_briefly_and_nothing_is_measured_for_them() {
    let quota = |thousandths| Waits {
        quota: Some(CpuQuota(thousandths)),
        ..TWO
    };
    let on_gpu = Waits {
        is_on_gpu: true,
        ..TWO
    };
    let single = Waits {
        n_threads: 1,
        ..TWO
    };
    for waits in [quota(1500), on_gpu, single] {
        let spin = Spin::measured(|| panic!("the machine is measured"), waits);
        assert!(
            matches!(
                spin,
                Spin::Measured {
                    count: 1000,
                    costs: None
                }
            ),
            "{waits:?}"
        );
    }
    let spin = Spin::measured(|| Some(costs(7000, 28)), quota(2000));
    assert!(matches!(spin, Spin::Measured { count: 2500, .. }));
}

const MEASURED: Spin = Spin::Measured {
    count: 2500,
    costs: None,
};

#[test]
fn a_count_is_shown_with_the_costs_from_which_it_follows() {
    let short = Spin::measured(|| None, TWO);
    assert_eq!(short.to_string(), "they spin 1000 times before they sleep");
    let measured = Spin::measured(|| Some(costs(7000, 28)), TWO);
    assert_eq!(
        measured.to_string(),
        "they spin 2500 times before they sleep (wake-up 7.0 µs, pause 28 ns)"
    );
}

#[test]
fn a_number_in_the_configuration_takes_precedence_over_variables_and_these_over_a_measurement() {
    let spin = |key, inherited| Spin::from_sources(key, inherited, || MEASURED);
    let variable = Some(SPIN_COUNT);
    let chosen = [SpinCount::Count(500), SpinCount::Auto].map(|key| spin(key, variable));
    assert_eq!(chosen, [Spin::Configured(500), Spin::Inherited(SPIN_COUNT)]);
    let chosen = [SpinCount::Count(500), SpinCount::Auto].map(|key| spin(key, None));
    assert_eq!(chosen, [Spin::Configured(500), MEASURED]);
}

#[test]
fn a_worker_gets_the_count_without_a_wait_policy_or_else_the_variables_of_the_server() {
    let variables = |count: &str| {
        vec![
            ("GOMP_SPINCOUNT", Some(count.to_owned())),
            ("OMP_WAIT_POLICY", None),
        ]
    };
    assert_eq!(Spin::Configured(0).variables(), variables("0"));
    assert_eq!(MEASURED.variables(), variables("2500"));
    assert_eq!(Spin::Inherited(WAIT_POLICY).variables(), []);
    assert_eq!(Spin::Unused.variables(), []);
}

#[test]
fn a_variable_counts_only_if_openmp_uses_its_value() {
    let valid = |name, values: [&str; 4]| values.map(|value| is_valid(name, value));
    assert_eq!(
        valid(SPIN_COUNT, ["300", " 10k", "0", "Infinite"]),
        [true; 4]
    );
    assert_eq!(valid(SPIN_COUNT, ["", "abc", "-1", "k"]), [false; 4]);
    assert_eq!(
        valid(WAIT_POLICY, ["active", "PASSIVE", "", "bogus"]),
        [true, true, false, false]
    );
}

#[test]
fn this_machine_can_be_measured() {
    let costs = WaitCosts::measured().unwrap();
    assert!(costs.wake_up > Duration::ZERO && costs.pauses > Duration::ZERO);
}
