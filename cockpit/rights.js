/** What the user of this session may do, and why not: groups of the login, and Cockpit's administrative access. */

/* global cockpit */

const ADMINISTRATION = cockpit.permission({ admin: true });

let user = {};

/** Resolves when it is known who the user is. */
export const known = cockpit.user().then(found => { user = found; });

/** Has this called whenever administrative access comes or goes. */
export const onRights = changed => ADMINISTRATION.addEventListener("changed", changed);

const isIn = group => (user.groups || []).includes(group);
export const mayAdminister = () => user.id === 0 || ADMINISTRATION.allowed === true;

export const name = () => user.name;
export const mayLook = () => mayAdminister() || isIn("trafficmon");
export const mayChange = () => mayAdminister() || isIn("trafficmon-admin");
export const WHY_NOT = "Limited access: you may read, but not change anything.";
export const WHAT_TO_DO = "Turn on administrative access at the top of Cockpit, or join the group trafficmon-admin.";
