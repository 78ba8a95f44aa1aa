//! Keys for scripts: `/v1/apikeys`. A key's secret passes through here once, on its way to whoever made it.

use super::pass;
use super::reply::Reply;
use super::routes::Call;

pub(super) fn list(call: &Call<'_>) -> Reply {
    pass::question(call, "apikey_list", &[])
}

pub(super) fn create(call: &Call<'_>) -> Reply {
    pass::change(call, "apikey_create")
}

pub(super) fn revoke(call: &Call<'_>) -> Reply {
    pass::change_item(call, "apikey_revoke", "id")
}
