//! One body of a test for several versions of HTTP.

/// `on_versions!(c21_…: h1 h2 h3);` before `async fn c21_…(http: Http)` makes the tests `c21_…::h1`, `c21_…::h2` and `c21_…::h3` of it.
macro_rules! on_versions {
    (@h1) => { masque_relay::probe::Http::H1 };
    (@h2) => { masque_relay::probe::Http::H2 };
    (@h3) => { masque_relay::probe::Http::H3 };
    ($test:ident: $($http:ident)+) => {
        mod $test {
            $(
                #[tokio::test]
                async fn $http() {
                    super::$test($crate::support::on_versions!(@$http)).await;
                }
            )+
        }
    };
}

pub(crate) use on_versions;
